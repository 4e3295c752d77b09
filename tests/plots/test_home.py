import os
import subprocess
import sys


def test_a_home_folder_that_cannot_be_written_to_is_no_news(tmp_path):
    (tmp_path / "file").touch()
    homes = {name: str(tmp_path / "file") for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"} | homes
    code = "from lightning_cnn.plots import figures"

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
