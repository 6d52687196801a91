"""From sampled frames to responses: one encoder, one engine protocol, one module per engine."""

from vqathinker.rollout.encoder import EncodedVideo as EncodedVideo
from vqathinker.rollout.encoder import VideoEncoder as VideoEncoder
from vqathinker.rollout.engine import Response as Response
from vqathinker.rollout.engine import RolloutEngine as RolloutEngine
from vqathinker.rollout.engine import RolloutRequest as RolloutRequest
from vqathinker.rollout.engine import Sampling as Sampling
from vqathinker.rollout.hf import HFEngine as HFEngine
