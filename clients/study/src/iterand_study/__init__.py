"""The study: how much real data does compute replace?

Pretrains small transformers on streams. Measures what they predict of languages and texts that they have never seen,
and what they save when finetuned on real data. The command is `iterand-study`.
"""
