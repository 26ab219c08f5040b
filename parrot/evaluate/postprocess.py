"""What VLMEvalKit's Parrot wrapper makes of a raw answer before it is stored and matched.

Prediction files keep the raw answer; scoring applies this where the config says ``postprocess: vlmevalkit``.
"""

from __future__ import annotations

import string

from parrot.evaluate.prompts import LETTER_INSTRUCTION

# The wrapper's present Chinese sentence is not among them, an older one is.
SENTENCES = (LETTER_INSTRUCTION["en"], "请直接回答选项字母。")
# ASCII only: a full-width stop, or a quotation mark of another script, stays.
BLANKS = string.whitespace + string.punctuation
LEADS = ("answer is", "answer:")


def wrapper_answer(raw: str, query: str) -> str:
    """`raw` as the wrapper stores it: shortened to a letter where it can be, if `query` ends with one of `SENTENCES`.

    A capital that starts or ends the answer and stands apart is taken for the letter, whatever it means: "I think it is
    B" gives "I". Otherwise what precedes "answer is", "answer:" and "option" is cut off, and the rest looked at again.
    """
    if not query.endswith(SENTENCES):
        return raw.strip(string.whitespace)
    answer = raw.strip(BLANKS)
    while len(answer) > 1:
        if answer[0] in string.ascii_uppercase and answer[1] in BLANKS:
            return answer[0]
        if answer[-1] in string.ascii_uppercase and answer[-2] in BLANKS:
            return answer[-1]
        rest = _after(_after(answer, LEADS), ("option",)) if any(lead in answer.lower() for lead in LEADS) else answer
        if rest == answer:
            break
        answer = rest.strip(BLANKS)
    return answer


def _after(text: str, leads: tuple[str, ...]) -> str:
    """Return what follows the first place of the first of `leads` that occurs, in any case; `text` where none does.

    The place is counted in the lower-cased text, as the wrapper does: a letter that grows there (the Turkish dotted
    capital I becomes two characters) shifts the cut.
    """
    lowered = text.lower()
    for lead in leads:
        if lead in lowered:
            return text[lowered.find(lead) + len(lead) :]
    return text
