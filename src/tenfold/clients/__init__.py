"""Client libraries made from an app's definition: Python and TypeScript."""
