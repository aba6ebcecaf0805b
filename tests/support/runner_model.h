/* A small model for tests of the runner: random weights, a byte-level vocabulary, ChatML. */
#ifndef TESTS_SUPPORT_RUNNER_MODEL_H
#define TESTS_SUPPORT_RUNNER_MODEL_H

#define RUNNER_MODEL_CTX 512   /* trained context */
#define RUNNER_MODEL_VOCAB 261 /* 256 bytes, two merges, three control tokens */
#define RUNNER_MODEL_END 259 /* <|im_end|>; the one behind it, <|endoftext|>, ends an answer too */

enum {
    RUNNER_MODEL_NO_TEMPLATE = 1,  /* without tokenizer.chat_template */
    RUNNER_MODEL_NAN = 2,          /* computes numbers that are not finite */
    RUNNER_MODEL_ODD_TEMPLATE = 4, /* with one that is not known */
};

/** runner_model_gguf() - a new memory file with the GGUF; the caller closes it. Fails the test. */
int runner_model_gguf(unsigned flags);

/** runner_model_packed() - the same, packed */
int runner_model_packed(unsigned flags);

#endif
