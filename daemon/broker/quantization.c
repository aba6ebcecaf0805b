/* quantization: families with their aliases, and GGUF types by name. gptq-4bit and awq-8bit are not
 * aliases: they name int4 and int8 files whose metadata says they were made so. */
#include "daemon/broker/quantization.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/compiler.h"

static const struct {
    const char *name, *means;
} families[] = {
    {"binary", "binary"},   {"takane-1bit", "binary"},
    {"ternary", "ternary"}, {"bitnet-1.58", "ternary"},
    {"int4", "int4"},       {"gptq-4bit", "gptq-4bit"},
    {"int8", "int8"},       {"awq-8bit", "awq-8bit"},
    {"f16", "f16"},         {"f32", "f32"},
    {"mixed", "mixed"},
};

static const char *const types[] = {
    "F32",  "F16",   "BF16",  "Q1_0", "Q2_0",   "Q2_0_g128", "PQ2_0",  "Q4_0",
    "Q4_1", "Q5_0",  "Q5_1",  "Q8_0", "Q2_K",   "Q3_K",      "Q4_K",   "Q5_K",
    "Q6_K", "TQ1_0", "TQ2_0", "I2_S", "IQ2_BN", "IQ4_NL",    "IQ4_XS",
};

static const char *family(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        if (strcmp(families[i].name, name) == 0) {
            return families[i].means;
        }
    }
    return NULL;
}

static bool type_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (strcasecmp(types[i], name) == 0) {
            return true;
        }
    }
    return false;
}

bool quantization_known(const char *name)
{
    return family(name) || type_known(name);
}

const char *quantization_names(void)
{
    return "binary (takane-1bit), ternary (bitnet-1.58), int4, int8, f16, f32, mixed, gptq-4bit, "
           "awq-8bit, or a GGUF type such as Q1_0, TQ2_0, Q8_0";
}

/* The parents of the two names that say more than their family. */
static bool made_as(const char *family_name, const char *quantization)
{
    return (strcmp(family_name, "int4") == 0 && strcmp(quantization, "gptq-4bit") == 0) ||
           (strcmp(family_name, "int8") == 0 && strcmp(quantization, "awq-8bit") == 0);
}

bool quantization_fits(const char *expected, const char *quantization, const char *formats)
{
    const char *means = family(expected);

    if (means && (strcmp(means, quantization) == 0 || made_as(means, quantization))) {
        return true;
    }
    /* The first format is the layers'. A mixed model is none of its formats; Q2_0 in groups of 128
     * has the number of Q2_0. */
    const size_t n = strcspn(formats, "+");
    const bool same = strlen(expected) == n && strncasecmp(expected, formats, n) == 0;
    const bool older = strcasecmp(expected, "Q2_0") == 0 && n == strlen("Q2_0_g128") &&
                       strncmp(formats, "Q2_0_g128", n) == 0;
    return type_known(expected) && (same || older) && strcmp(quantization, "mixed") != 0;
}
