"""`python -m vqathinker.cli`, which a launcher of several processes needs."""

from vqathinker.cli import app

app()
