"""What tests/soak does at length and tests/test_trust.py in short: mishaps at every moment, and strangers' input.

A soak is a class: made of a Laboratory, it has `total`, the number of its rounds (None: any number), and
round(number, random), which gives the complaints of that round, none where all went well. The same seed and number
make the same round again.
"""
