/* selftest.c - is an answer to a question with one right decision right. */
#include "common/selftest.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_LEN  64
#define VALUE_MAX_LEN 48

/* A value as people read it, cut to what fits. */
static const char *text_of(const json_t *v, char buf[static VALUE_MAX_LEN])
{
    if (!v)
        return "nothing";
    if (json_is_object(v))
        return "an object";
    if (json_is_array(v)) {
        snprintf(buf, VALUE_MAX_LEN, "a list of %zu", json_array_size(v));
        return buf;
    }
    size_t n = json_dumpb(v, buf, VALUE_MAX_LEN - 1, JSON_ENCODE_ANY);
    if (n > VALUE_MAX_LEN - 1) { /* too long: nothing was written that counts */
        if (json_is_string(v))
            snprintf(buf, VALUE_MAX_LEN, "\"%.40s...", json_string_value(v));
        else
            snprintf(buf, VALUE_MAX_LEN, "a long number");
    } else {
        buf[n] = 0;
    }
    return buf;
}

struct place {
    char path[PATH_MAX_LEN];
    char *why;
    size_t size;
};

static bool differs(struct place *at, const json_t *expect, const json_t *answer)
{
    char e[VALUE_MAX_LEN], a[VALUE_MAX_LEN];
    snprintf(at->why, at->size, "%s: expected %s, got %s", *at->path ? at->path : "the answer", text_of(expect, e),
             text_of(answer, a));
    return false;
}

static bool same_number(const json_t *a, const json_t *b)
{
    if (json_is_integer(a) && json_is_integer(b))
        return json_integer_value(a) == json_integer_value(b);
    double x = json_number_value(a), y = json_number_value(b);
    return x <= y && x >= y;
}

static bool same(struct place *at, const json_t *expect, const json_t *answer);

/* Goes one level down and comes back up. */
static bool below(struct place *at, const char *step, const json_t *expect, const json_t *answer)
{
    size_t was = strlen(at->path);
    snprintf(at->path + was, sizeof at->path - was, "%s%s", was && *step != '[' ? "." : "", step);
    bool ok = same(at, expect, answer);
    at->path[was] = 0;
    return ok;
}

static bool same(struct place *at, const json_t *expect, const json_t *answer)
{
    if (!answer || (json_is_number(expect) ? !json_is_number(answer) : json_typeof(expect) != json_typeof(answer)))
        return differs(at, expect, answer);
    switch (json_typeof(expect)) {
    case JSON_OBJECT: {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)expect, key, value)
        {
            if (!below(at, key, value, json_object_get(answer, key)))
                return false;
        }
        return true;
    }
    case JSON_ARRAY:
        if (json_array_size(expect) != json_array_size(answer))
            return differs(at, expect, answer);
        for (size_t i = 0; i < json_array_size(expect); i++) {
            char step[24];
            snprintf(step, sizeof step, "[%zu]", i);
            if (!below(at, step, json_array_get(expect, i), json_array_get(answer, i)))
                return false;
        }
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return same_number(expect, answer) || differs(at, expect, answer);
    case JSON_STRING: /* by length: an embedded NUL hides nothing */
        return (json_string_length(expect) == json_string_length(answer) &&
                memcmp(json_string_value(expect), json_string_value(answer), json_string_length(expect)) == 0) ||
               differs(at, expect, answer);
    default: /* true, false, null: the type is the value */
        return true;
    }
}

bool selftest_same(const json_t *expect, const json_t *answer, char *why, size_t size)
{
    struct place at = {.why = why, .size = size};
    why[0] = 0;
    return same(&at, expect, answer);
}
