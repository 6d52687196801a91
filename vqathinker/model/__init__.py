"""The policy: InternVL3 in the Hugging Face format, a frozen SlowFast, and their processor."""

from vqathinker.model.modeling import VQAThinkerConfig as VQAThinkerConfig
from vqathinker.model.modeling import VQAThinkerForConditionalGeneration as VQAThinkerForConditionalGeneration
from vqathinker.model.processing import FrameSetting as FrameSetting
from vqathinker.model.processing import VQAThinkerProcessor as VQAThinkerProcessor
