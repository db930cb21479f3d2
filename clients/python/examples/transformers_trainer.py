"""Hugging Face Trainer, on one process or several: torchrun --nproc-per-node 2 transformers_trainer.py [folder]"""

import sys

from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from iterand.hf import StreamTrainer
from iterand.torch import StreamDataset

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "trainer"
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=16,
        max_steps=10,
        save_steps=5,
        logging_steps=5,
        use_cpu=True,
        report_to="none",
    )
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=128, n_embd=32, n_layer=2, n_head=2))
    trainer = StreamTrainer(model, arguments, train_dataset=StreamDataset("up", length=128))
    # A checkpoint has the position in the stream and resumes with any number of processes.
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder))
