"""Compare what the shop says with what the ledger says."""

from __future__ import annotations

from dataclasses import dataclass

from shop.money import pounds


@dataclass(frozen=True, slots=True)
class Verdict:
    """Figures of the shop beside the ledger's; money in pence."""

    orders: int
    lines: int
    receipts: int
    revenue: int
    ledger_orders: int
    ledger_lines: int
    ledger_revenue: int

    def line(self) -> str:
        """The last line of the replay's output; its form is fixed."""
        return (
            f"replay: orders={self.orders} lines={self.lines} receipts={self.receipts} "
            f"revenue={pounds(self.revenue)} ledger={pounds(self.ledger_revenue)} "
            f"difference={pounds(self.revenue - self.ledger_revenue)}"
        )

    def disagreements(self) -> list[str]:
        """A sentence for everything that differs; none when all agree."""
        pairs = [
            (self.orders, self.ledger_orders, "The shop has {0:,} orders, the ledger {1:,} invoices."),
            (self.lines, self.ledger_lines, "The shop sold {0:,} lines, the ledger has {1:,}."),
            (self.receipts, self.ledger_orders, "{0:,} receipts were sent for {1:,} invoices."),
        ]
        found = [sentence.format(ours, theirs) for ours, theirs, sentence in pairs if ours != theirs]
        if self.revenue != self.ledger_revenue:
            found.append(
                f"The report says £{pounds(self.revenue)}, the ledger £{pounds(self.ledger_revenue)}."
            )
        return found
