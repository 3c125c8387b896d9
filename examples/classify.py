"""Learn from English examples, answer in other languages.

Run it with ``python examples/classify.py``; the backbone comes from PyPI the first time.
"""

# the example
from polyprompt import Classifier
from polyprompt.experiments.store import RunFolder

EXAMPLES = {
    "delivery": [
        "The parcel came a week late.",
        "My order still has not been shipped.",
        "The courier left the box at the wrong house.",
        "When will the package get here?",
        "The tracking page has said nothing for days.",
        "Nobody rang the bell, and now I must collect it myself.",
        "Half of the order is missing from the shipment.",
        "Can you send it to another address?",
    ],
    "payment": [
        "I was charged twice for one order.",
        "My card was refused although it is valid.",
        "The refund has not reached my bank account.",
        "Why is the invoice higher than the price?",
        "The discount was not taken off the total.",
        "Money left my account, but the order was cancelled.",
        "Can I pay in three instalments?",
        "Please send me a receipt for this purchase.",
    ],
    "product": [
        "The screen was cracked when I opened it.",
        "One of the buttons does not work.",
        "The fabric has a hole in it.",
        "It stopped charging after two days.",
        "The colour is not the one in the picture.",
        "The shoes fell apart within a month.",
        "The lid does not close properly.",
        "The lamp flickers and then goes out.",
    ],
}
QUESTIONS = {
    "Das Paket ist immer noch nicht da.": "delivery",
    "Se me ha cobrado dos veces.": "payment",
    "L'écran est cassé.": "product",
    "Kifurushi changu hakijafika.": "delivery",
    "退款还没有到账。": "payment",
}

texts = [text for own in EXAMPLES.values() for text in own]
labels = [label for label, own in EXAMPLES.items() for _ in own]
classifier = Classifier().fit(
    texts,
    labels,
    descriptions={
        "delivery": "a late, lost or misdelivered parcel",
        "payment": "a charge, an invoice or a refund",
        "product": "a broken or faulty product",
    },
)
own = RunFolder(classifier.folder).scores().filter(metric="accuracy")
for name, value, n in own.select("baseline", "value", "n").iter_rows():
    print(f"{name or 'the prompt'}: {100 * value:.0f} % of {n} examples, by folds that saw others")
print()
for (question, right), row in zip(
    QUESTIONS.items(), classifier.predict_proba(list(QUESTIONS)), strict=True
):
    best = classifier.labels[int(row.argmax())]
    print(f"{best:<10} {row.max():.2f}  {question}{'' if best == right else f'  (is {right})'}")
