"""All wording of instruction data: questions, templates, and what language models are asked."""

from __future__ import annotations

# --- scores and distortions ------------------------------------------------------------------------------

SCORING_QUESTIONS = (
    "How would you rate the quality of this {kind}?",
    "What is the quality of this {kind}?",
    "Please rate the quality of this {kind}.",
    "How good does this {kind} look?",
    "Which level of quality does this {kind} have?",
    "Give a rating of the quality of this {kind}.",
    "Judge the quality of this {kind}.",
    "What do you think of the quality of this {kind}?",
    "Assess how well this {kind} looks.",
    "Tell me the quality level of this {kind}.",
)
# published weights were trained on this sentence (VQA², VITAL)
SCORING_ANSWER = "The quality of the {kind} is {level}."

RECOGNITION_QUESTIONS = (
    "Which distortion does this {kind} show?",
    "What kind of distortion is there in this {kind}?",
    "Name the distortion that you see in this {kind}.",
    "What is wrong with the quality of this {kind}?",
    "By which distortion does this {kind} suffer?",
)

STALL_SEQUENCE = "While the video plays, 1 marks a frame that stalls and 0 one that moves on: {sequence}."
STALL_SUMMARY = (
    "The video waits {initial:g} s before it starts. It stalls {number} times during playback{lengths}; "
    "stalling takes {share:.1%} of its {total:g} s, and {since}."
)
STALL_LENGTHS = ", for {seconds}"
SINCE_STALL = "{seconds:g} s pass from the end of the last stall to the end of the video"
NO_STALL = "it plays to the end without a stall"

# --- understanding ---------------------------------------------------------------------------------------

DEGREE_QUESTIONS = (
    "Is the {attribute} in this {kind} {degree}?",
    "Would you call the {attribute} of this {kind} {degree}?",
)
CHOICE_QUESTIONS = (
    "How would you describe the {attribute} of this {kind}?",
    "To what degree does this {kind} show {attribute}?",
)
RATING_CHOICE_QUESTIONS = (
    "How would you rate the {attribute} of this {kind}?",
    "How is the {attribute} of this {kind}?",
)
WHICH_QUESTIONS = (
    "Which of these distortions is the most visible one in this {kind}?",
    "What affects the quality of this {kind} most?",
)
OPEN_QUESTIONS = (
    "What limits the quality of this {kind}?",
    "Which quality problem does a viewer of this {kind} notice?",
)
OPEN_ANSWERS = ("There is {fact}.", "It suffers from {fact}.")
RATING_QUESTIONS = (
    "What can you say about the {attribute} of this {kind}?",
    "How does the {attribute} look?",
)
RATING_ANSWERS = ("The {attribute} is {degree}.", "Its {attribute} is {degree}.")
TEMPORAL_QUESTIONS = (
    "When does the {attribute} occur in this video?",
    "At which point of the playback is there {attribute}?",
)
TEMPORAL_ANSWERS = ("It occurs {time}.", "The {attribute} is there {time}.")
REMEDY_QUESTIONS = (
    "How could this {kind} be improved after it was recorded?",
    "Which processing would raise the quality of this {kind}?",
)
CAUSAL_QUESTIONS = (
    "Describe the quality of this {kind} in detail, then rate it by your description.",
    "What is the quality of this {kind} like, and which level follows from it?",
)
CAUSAL_ANSWER = "{depiction} Hence, the quality of this {kind} is {level}."

# what helps against which problem, by a word that its name holds
REMEDIES = {
    "blur": "A deblurring or super-resolution network could bring back edges and texture.",
    "noise": "A denoiser that compares neighbouring frames could remove the noise and keep the texture.",
    "compression": "A deblocking filter or an artefact-removal network could smooth the coding artefacts.",
    "block": "A deblocking filter could smooth the borders of the blocks.",
    "pixel": "Super-resolution could rebuild the detail that is missing between the squares.",
    "exposure": "A tone curve, or local tone mapping, could bring back a natural brightness.",
    "bright": "A tone curve could lower the highlights.",
    "dark": "A tone curve could lift the shadows, followed by some denoising.",
    "contrast": "A tone curve or local contrast equalisation could bring back a natural contrast.",
    "saturat": "A correction of the saturation in post-production could bring back natural colours.",
    "color": "A correction of the colours in post-production could bring back natural ones.",
    "shak": "Digital stabilisation could take out the movement of the camera.",
    "flicker": "A deflickering filter could even out the brightness from frame to frame.",
    "stutter": "Frame interpolation could fill in the frames that are missing.",
    "sharpen": "A mild low-pass filter could soften the halos of sharpening.",
    "quanti": "A debanding filter with some dither could smooth the steps between tones.",
}

# --- chains of scores ------------------------------------------------------------------------------------

CHAIN_QUESTIONS = (
    "Assess this {kind} step by step: each aspect, then its technical and aesthetic quality, then all of it.",
    "How good is the quality of this {kind}, and how do you come to that?",
    "Explain what makes up the quality of this {kind}, and conclude with a rating.",
)
CHAIN_CAPTION = "The {kind} shows {caption}"
CHAIN_STEP = "{definition} {is_are} {word}{effect}."
CHAIN_GROUP = "Taken together, the {group} quality is {word}."
CHAIN_END = "Weighing both, the overall quality of this {kind} is {word}."
CHAIN_END_ALONE = "So the overall quality of this {kind} is {word}."
DIMENSION_QUESTIONS = (
    "How would you rate {definition} in this {kind}?",
    "What can you say about {definition} here?",
    "Please rate {definition} in this {kind}.",
)
DIMENSION_ANSWERS = ("I rate {definition} as {word}{effect}.", "For me {definition} {is_are} {word}{effect}.")

# --- statements ------------------------------------------------------------------------------------------

STATEMENT = "The {kind} shows {fact}."
RATED_STATEMENT = "The {attribute} of the {kind} is {degree}."

# --- what language models are asked ----------------------------------------------------------------------

DESCRIBE_PROMPTS = (
    "Describe the visual quality of this {kind} in detail.",
    "Look closely at this {kind} and describe its visual quality: what is good, what is not, where and when.",
)
SPLIT_PROMPT = """\
Below is a description of the visual quality of a {kind}. Turn it into short statements, one per line.
- Each statement says one thing about one attribute, such as sharpness, noise, exposure, colour or stability.
- Leave out whatever is vague, and whatever concludes on the quality as a whole.
- Write as one who sees the {kind}; do not mention the description.
- Write the statements alone, without numbers.

{text}"""
REWORD_PROMPT = """\
Reword the text below so that it reads naturally and differently, and says the same.
These rating words must all stay, unchanged and in this order: {words}. Use no other rating word.
Write the new text alone.

{text}"""
QUESTIONS_PROMPT = """\
Below is a depiction of the quality of a {kind}. You do not see the {kind} itself.
Write three questions about single attributes of its quality, with their answers: one with the options yes and
no, one with four different options of which one is right, and one without options.
Ask only what the depiction answers. Write as one who has seen the {kind}: neither questions nor answers
mention a depiction, and no question gives its own answer away.
Answer as JSON: {{"questions": [{{"question": "...", "options": ["..."], "answer": "..."}}]}}. The answer to a
question with options is one of them, word by word.

{text}"""
TEMPORAL_PROMPT = """\
Below is a depiction of the quality of a video. You do not see the video itself.
Write one question about time, with its answer: when something occurs or how often, or how two parts of the
video compare. Ask only what the depiction answers, and write as one who has seen the video.
Answer as JSON: {{"questions": [{{"question": "...", "options": [], "answer": "..."}}]}}; where the depiction
says nothing about time, as {{"questions": []}}.

{text}"""
EXTENDED_PROMPT = """\
Below is a depiction of the quality of a {kind}. You do not see the {kind} itself.
Write one question that goes beyond it, with its answer: why an attribute is as it is, if the depiction says
so, how the {kind} could be improved afterwards, or what to do otherwise when it is taken again. Keep to what
the depiction says of the {kind}, and write as one who has seen it.
Answer as JSON: {{"questions": [{{"question": "...", "options": [], "answer": "..."}}]}}.

{text}"""
LOCAL_PROMPT = """\
Below is a remark on the quality of a {kind} at one moment or in one place. You do not see the {kind} itself.
Write one question about that moment or place, with its answer, that says no more than the remark.
Answer as JSON: {{"questions": [{{"question": "...", "options": [], "answer": "..."}}]}}.

{text}"""
JUDGE_PROMPT = """\
Look carefully at the {kind} and rate this statement on its quality:
{statement}

2: it agrees with the {kind}, but for details or unusual wording.
1: it deviates, as in the degree of a distortion, or when or where something is.
0: it does not agree: what it says is not there, or very different.
Answer as JSON: {{"score": 0, 1 or 2, "correction": "for a 1, the statement put right in the same style",
"reason": "for a 0, why"}}."""
# of one meaning, each put differently: the same answer to all shows that the model means it
SELF_JUDGE_PROMPTS = (
    'Is this statement on the quality of the {kind} correct? "{statement}"\nA. Yes\nB. No\n'
    "Answer with the letter.",
    'Someone says of this {kind}: "{statement}" Do you agree?\nA. I agree\nB. I do not agree\n'
    "Answer with the letter.",
    'Compare the {kind} with these words: "{statement}"\nA. They fit the {kind}\nB. They do not fit it\n'
    "Answer with the letter.",
)
