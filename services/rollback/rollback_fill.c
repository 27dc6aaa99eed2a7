/* rollback_fill.c - arguments of programs and URLs with {{names}} that are replaced by texts. */
#include "rollback/rollback_fill.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LEN_MAX 32

static const struct fill_name *look_up(const char *name, size_t len, const struct fill_name *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
            return &names[i];
    return NULL;
}

/* The name that s ("{{ name }}") begins with; NULL with the reason in e. */
static const struct fill_name *name_at(const char *s, const struct fill_name *names, size_t n, const char **end,
                                       struct err *e)
{
    const char *from = s + 2, *close = strstr(from, "}}");
    if (!close) {
        err_set(e, "`%.100s`: {{ without }}", s);
        return NULL;
    }
    from += strspn(from, " ");
    const char *to = close;
    while (to > from && to[-1] == ' ')
        to--;
    size_t len = to > from ? (size_t)(to - from) : 0;
    const struct fill_name *found = len <= NAME_LEN_MAX ? look_up(from, len, names, n) : NULL;
    if (!found)
        err_set(e, "there is no {{%.*s}}", (int)(len < NAME_LEN_MAX ? len : NAME_LEN_MAX), from);
    *end = close + 2;
    return found;
}

static int write_value(FILE *out, const struct fill_name *v, bool alone, struct err *e)
{
    if (!v->value)
        return err_set(e, "{{%s}} has no value here", v->name);
    for (const unsigned char *c = (const unsigned char *)v->value; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            return err_set(e, "the value of {{%s}} holds a control character", v->name);
    if (alone && *v->value == '-')
        return err_set(e, "the value of {{%s}} (`%.60s`) would be taken for an option", v->name, v->value);
    fputs(v->value, out);
    return 0;
}

static int write_all(FILE *out, const char *text, const struct fill_name *names, size_t n, struct err *e)
{
    for (const char *s = text; *s;) {
        if (s[0] != '{' || s[1] != '{') {
            fputc(*s++, out);
            continue;
        }
        const char *end = NULL;
        const struct fill_name *v = name_at(s, names, n, &end, e);
        if (!v || write_value(out, v, s == text, e))
            return -1;
        s = end;
    }
    return 0;
}

char *fill_text(const char *text, const struct fill_name *names, size_t n, struct err *e)
{
    char *filled = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&filled, &len);
    if (!out) {
        err_set(e, "out of memory");
        return NULL;
    }
    int bad = write_all(out, text, names, n, e);
    if (fclose(out) && !bad)
        bad = err_set(e, "out of memory");
    if (!bad)
        return filled;
    free(filled);
    return NULL;
}

void fill_free(char **argv)
{
    for (size_t i = 0; argv && argv[i]; i++)
        free(argv[i]);
    free(argv);
}

char **fill_argv(const struct conf_list *command, const struct fill_name *names, size_t n, struct err *e)
{
    char **argv = calloc(command->n + 1, sizeof *argv);
    if (!argv)
        err_set(e, "out of memory");
    for (size_t i = 0; argv && i < command->n; i++) {
        const char *text = *CONF_AT(*command, char *, i);
        argv[i] = i == 0 ? strdup(text) : fill_text(text, names, n, e);
        if (!argv[i]) {
            if (i == 0)
                err_set(e, "out of memory");
            fill_free(argv);
            return NULL;
        }
    }
    return argv;
}

bool fill_known(const struct conf_list *command, const struct fill_name *names, size_t n, struct err *e)
{
    for (size_t i = 1; i < command->n; i++)
        for (const char *s = strstr(*CONF_AT(*command, char *, i), "{{"), *end; s; s = strstr(end, "{{"))
            if (!name_at(s, names, n, &end, e))
                return false;
    return true;
}

bool fill_uses(const struct conf_list *command, const char *name)
{
    const struct fill_name one = {name, NULL};
    for (size_t i = 1; i < command->n; i++)
        for (const char *s = strstr(*CONF_AT(*command, char *, i), "{{"); s; s = strstr(s + 2, "{{")) {
            const char *end;
            if (name_at(s, &one, 1, &end, NULL))
                return true;
        }
    return false;
}

bool fill_allowed(const struct conf_list *allowed, const struct conf_list *command)
{
    for (size_t i = 0; command->n > 0 && i < allowed->n; i++)
        if (strcmp(*CONF_AT(*allowed, char *, i), *CONF_AT(*command, char *, 0)) == 0)
            return true;
    return false;
}
