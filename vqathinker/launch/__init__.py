"""From a command line to checked settings, before torch is imported; and the launch of a recipe.

Knows the standard library and PyYAML, and of ours the plug-ins' registries.
"""

from vqathinker.launch.build import build_plugins as build_plugins
from vqathinker.launch.compose import Composed as Composed
from vqathinker.launch.compose import run_recipe as run_recipe
from vqathinker.launch.errors import user_errors as user_errors
from vqathinker.launch.read import read_settings as read_settings
from vqathinker.launch.settings import Settings as Settings
