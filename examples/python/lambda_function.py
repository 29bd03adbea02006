"""Tells a text's most frequent words.

What stands outside of the handler is kept between calls of the same container:
here, how many texts it has seen.
"""
import collections
import re

calls = 0


def lambda_handler(event, context):
    global calls
    calls += 1
    words = re.findall(r"[^\W\d_]+", event.get("text", "").lower())
    counts = collections.Counter(words)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: event.get("top", 3)]
    print(f"{len(words)} words, {context.get_remaining_time_in_millis()} ms left")
    return {"words": len(words), "top": dict(top), "calls": calls}
