/* template.c - texts with {{names}} that are replaced by JSON values. */
#include "common/template.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LEN_MAX 64

/* The name that starts at `s` ("{{ name }}"): its bytes without blanks; *end behind the braces. -1 with the text in e. */
static int name_at(const char *text, const char *s, char name[static NAME_LEN_MAX + 1], const char **end,
                   struct err *e)
{
    const char *from = s + 2, *close = strstr(from, "}}");
    if (!close)
        return err_set(e, "byte %zu: {{ without }}", (size_t)(s - text));
    from += strspn(from, " \t\r\n");
    const char *to = close;
    while (to > from && strchr(" \t\r\n", to[-1]))
        to--;
    size_t n = to > from ? (size_t)(to - from) : 0;
    if (n == 0 || n > NAME_LEN_MAX)
        return err_set(e, "byte %zu: {{ }} holds no name of 1 to %d bytes", (size_t)(s - text), NAME_LEN_MAX);
    memcpy(name, from, n);
    name[n] = 0;
    *end = close + 2;
    return 0;
}

/* Copies text to out, names replaced. A name inside of a text of the template would put quotes between quotes, and what is
 * then JSON would be up to the value: refused. */
static int fill(FILE *out, const char *text, const json_t *values, struct err *e)
{
    bool quoted = false;
    for (const char *s = text; *s;) {
        if (s[0] == '{' && s[1] == '{') {
            char name[NAME_LEN_MAX + 1];
            const char *end = NULL;
            if (name_at(text, s, name, &end, e))
                return -1;
            const json_t *v = json_object_get(values, name);
            if (!v)
                return err_set(e, "byte %zu: there is no {{%s}}", (size_t)(s - text), name);
            if (quoted)
                return err_set(e, "byte %zu: {{%s}} stands between quotes; it brings its own", (size_t)(s - text),
                               name);
            if (json_dumpf(v, out, JSON_ENCODE_ANY | JSON_COMPACT))
                return err_set(e, "{{%s}} cannot be written", name);
            s = end;
            continue;
        }
        if (*s == '"')
            quoted = !quoted;
        if (quoted && *s == '\\' && s[1])
            fputc(*s++, out);
        fputc(*s++, out);
    }
    return 0;
}

char *template_fill(const char *text, const json_t *values, struct err *e)
{
    char *filled = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&filled, &len);
    if (!out) {
        err_set(e, "out of memory");
        return NULL;
    }
    int bad = fill(out, text, values, e);
    if (fclose(out) && !bad)
        bad = err_set(e, "out of memory");
    if (!bad && len > 0) {
        json_error_t at;
        json_t *j = json_loadb(filled, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
        if (!j)
            bad = err_set(e, "not JSON once filled: line %d, column %d: %s", at.line, at.column, at.text);
        json_decref(j);
    }
    if (bad) {
        free(filled);
        return NULL;
    }
    return filled;
}

int template_check(const char *text, const char *const *names, struct err *e)
{
    /* Numbers: wherever one may stand, every other value may stand as well. */
    json_t *values = json_object();
    for (size_t i = 0; names[i]; i++)
        json_object_set_new(values, names[i], json_integer(1));
    char *filled = values ? template_fill(text, values, e) : NULL;
    int bad = filled ? 0 : values ? -1 : err_set(e, "out of memory");
    free(filled);
    json_decref(values);
    return bad;
}
