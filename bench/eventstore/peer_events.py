"""The side of the ``eventsourcing`` library; PostgreSQL by its environment variables. Prints JSON."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

ONE_BY_ONE, BATCHES, BATCH = 2_000, 40, 250
APPENDERS, EACH = 16, 250


class Account(Aggregate):
    @event("Opened")
    def __init__(self):
        self.amount = 0

    @event("Paid")
    def pay(self, amount, note):
        self.amount += amount


def beside(app):
    """Events a second of threads, as its users do: each has an aggregate of its own."""
    accounts = [Account() for _ in range(APPENDERS)]
    app.save(*accounts)

    def pay(account):
        for n in range(EACH):
            account.pay(n, "beside others")
            app.save(account)

    with ThreadPoolExecutor(APPENDERS) as pool:
        begun = time.perf_counter()
        list(pool.map(pay, accounts))
        return APPENDERS * EACH / (time.perf_counter() - begun)


def main():
    app = Application()
    one, many = Account(), Account()
    app.save(one, many)
    begun, cpu = time.perf_counter(), time.process_time()
    for n in range(ONE_BY_ONE):
        one.pay(n, "one by one")
        app.save(one)
    one_s, one_cpu = time.perf_counter() - begun, time.process_time() - cpu
    begun = time.perf_counter()
    for n in range(BATCHES):
        for _ in range(BATCH):
            many.pay(n, "many at once")
        app.save(many)
    many_s = time.perf_counter() - begun
    beside_rate = beside(app)
    app.close()
    print(
        json.dumps(
            {
                "one": ONE_BY_ONE / one_s,
                "cpu_us": one_cpu / ONE_BY_ONE * 1e6,
                "beside": beside_rate,
                "many": BATCHES * BATCH / many_s,
            }
        )
    )


main()
