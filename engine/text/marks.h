/* Marks: tokens that steer a model, known by their text. Files do not name all of them by key. */
#ifndef ENGINE_TEXT_MARKS_H
#define ENGINE_TEXT_MARKS_H

#include <stdbool.h>

#include "base/strview.h"
#include "engine/text/vocab_view.h"

/** mark_is_end() - does a control token with this text end a generation? */
bool mark_is_end(struct strview text);

/** mark_is_control() - is a token with this text a control token, though its file calls it @type?
 * Plain text must not be able to spell it. What ordinary merges may spell, such as "</s>" in a
 * markup language, stays what it is where the file calls it normal. */
bool mark_is_control(struct strview text, enum token_type type);

#endif
