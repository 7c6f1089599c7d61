"""What ``tenfold up`` keeps running on one machine: instances by role, their balancer, companions."""
