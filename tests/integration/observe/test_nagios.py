"""Debian's Nagios runs the probe as a plugin, and takes its state, its sentence and its performance data."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest

from support.servers import Server, free_port, program

from .conftest import SOURCE, Watched

pytestmark = pytest.mark.xdist_group("watched")


class Nagios(Server):
    """Checks every service once, right after it has started."""

    user = ""

    def __init__(self, probes: dict[str, str]) -> None:
        super().__init__()
        self.probes = probes

    def prepare(self) -> None:
        python = f"/usr/bin/env PYTHONPATH={SOURCE} {sys.executable} -m tenfold probe"
        services = "".join(
            f"""
define command {{
  command_name {name}
  command_line {python} {words}
}}
define service {{
  host_name shop
  service_description {name}
  check_command {name}
  max_check_attempts 1
  check_interval 1
  retry_interval 1
  check_period always
  active_checks_enabled 1
  contacts nobody
  notifications_enabled 0
}}"""
            for name, words in self.probes.items()
        )
        (self.folder / "objects.cfg").write_text(_PERIOD + _HOST + services)
        (self.folder / "spool").mkdir()
        (self.folder / "nagios.cfg").write_text(f"""
log_file={self.folder}/nagios.log
cfg_file={self.folder}/objects.cfg
object_cache_file={self.folder}/objects.cache
status_file={self.folder}/status.dat
status_update_interval=1
nagios_user=root
nagios_group=root
check_external_commands=0
command_file={self.folder}/nagios.cmd
lock_file={self.folder}/nagios.lock
temp_file={self.folder}/nagios.tmp
temp_path={self.folder}
check_result_path={self.folder}/spool
query_socket={self.folder}/nagios.qh
use_syslog=0
check_workers=1
interval_length=1
service_inter_check_delay_method=n
check_result_reaper_frequency=1
service_check_timeout=60
use_retained_program_state=0
""")

    def command(self) -> list[str]:
        return [program("nagios4", "/usr/sbin"), str(self.folder / "nagios.cfg")]

    def ready(self) -> bool:
        return (self.folder / "status.dat").exists()

    def said(self) -> dict[str, dict[str, str]]:
        """By service: what Nagios knows of it."""
        text = (self.folder / "status.dat").read_text()
        found = [
            dict(re.findall(r"^\t(\w+)=(.*)$", block, re.MULTILINE))
            for block in re.findall(r"servicestatus \{(.*?)\}", text, re.DOTALL)
        ]
        return {each["service_description"]: each for each in found}


_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_PERIOD = (
    "define timeperiod {\n  timeperiod_name always\n  alias always\n"
    + "".join(f"  {day} 00:00-24:00\n" for day in _DAYS)
    + "}\n"
)
_HOST = """
define command {
  command_name tell
  command_line /bin/true
}
define contact {
  contact_name nobody
  host_notification_commands tell
  service_notification_commands tell
  host_notification_period always
  service_notification_period always
}
define host {
  host_name shop
  address 127.0.0.1
  max_check_attempts 1
  check_period always
  contacts nobody
  active_checks_enabled 0
  notifications_enabled 0
}
"""


@pytest.fixture
def nagios(fleet: list[Watched]) -> Iterator[Nagios]:
    url = f"--url {fleet[0].ops}"
    running = Nagios(
        {
            "ready": f"ready {url}",
            "gone": f"ready --url http://127.0.0.1:{free_port()}",
            "warned": f"metric --name process_resident_memory_bytes -w 1 {url}",
            "mistaken": f"queue -w ten {url}",
        }
    )
    running.start()
    yield running
    running.stop()


def test_nagios_takes_states_sentences_and_performance_data(nagios: Nagios) -> None:
    until = time.monotonic() + 40
    while not (
        len(said := nagios.said()) == 4 and all(each["has_been_checked"] == "1" for each in said.values())
    ):
        assert time.monotonic() < until, said
        time.sleep(0.1)
    states = {name: int(each["current_state"]) for name, each in said.items()}
    assert states == {"ready": 0, "gone": 2, "warned": 1, "mistaken": 3}
    assert said["ready"]["plugin_output"] == "OK - Ready."
    assert said["gone"]["plugin_output"].startswith("CRITICAL - It cannot be reached")
    assert re.fullmatch(r"'process_resident_memory_bytes'=[\d.e+]+;1;;;", said["warned"]["performance_data"])
    assert said["mistaken"]["plugin_output"].startswith("UNKNOWN - --warning: 'ten' is no range.")
