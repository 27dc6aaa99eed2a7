/* conf_show.c - settings back as YAML, with help from the table; and what a reload may change. */
#include "common/conf_impl.h"
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_COLUMNS 110
#define INDENT       2

/* ---- values ---- */

/* True if YAML readers of every kind take the text as this very string without quotes. */
static bool plain(const char *s)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    if (!isalpha((unsigned char)*s) && *s != '/')
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(s, words[i]) == 0)
            return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("_./-", *s))
            return false;
    return true;
}

/* Quoted where needed, with what substitution would take for its own written as plain text. malloc'ed. */
static char *string_text(const char *s)
{
    if (plain(s))
        return strdup(s);
    char *q = malloc(2 * strlen(s) + 3), *to = q;
    if (!q)
        return NULL;
    *to++ = '"';
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            *to++ = '\\';
        if (*s == '$' && s[1] == '{')
            *to++ = '$';
        *to++ = *s;
    }
    *to++ = '"';
    *to = 0;
    return q;
}

static char *shown_string(enum conf_type type, const char *s)
{
    char safe[CONF_STRING_MAX + 16];
    if (!s)
        s = "";
    if (type == CONF_SECRET)
        return string_text(*s ? "***" : "");
    /* Only what hides a password is changed; a value longer than the buffer is shown as it is. */
    return string_text(strstr(s, "://") && strlen(s) <= CONF_STRING_MAX ? conf_safe_text(s, safe, sizeof safe) : s);
}

static char *shown_scalar(const struct conf_field *f, const void *at)
{
    char buf[64];
    switch (f->type) {
    case CONF_BOOL:
        return strdup(*(const bool *)at ? "true" : "false");
    case CONF_ENUM:
        return strdup(f->choices[*(const int *)at]);
    case CONF_DURATION:
        return strdup(conf_duration_text(*(const int64_t *)at, buf, sizeof buf));
    case CONF_SIZE:
        return strdup(conf_size_text(*(const int64_t *)at, buf, sizeof buf));
    case CONF_PERCENT:
        snprintf(buf, sizeof buf, "%" PRId64 "%%", *(const int64_t *)at);
        return strdup(buf);
    case CONF_INT:
        snprintf(buf, sizeof buf, "%" PRId64, *(const int64_t *)at);
        return strdup(buf);
    default:
        return shown_string(f->type, *(char *const *)at);
    }
}

/* ---- lines ---- */

struct writer {
    void (*out)(void *ctx, const char *line);
    void *ctx;
    bool help;
    bool commented; /* inside of a list that is empty: its items' keys are shown as comments */
    unsigned indent;
    bool dash; /* the next key opens a list item */
};

__attribute__((format(printf, 2, 3))) static void line(struct writer *w, const char *fmt, ...)
{
    char *text = NULL, *whole = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    unsigned indent = w->indent - (w->dash ? INDENT : 0);
    if (text &&
        asprintf(&whole, "%*s%s%s%s", (int)indent, "", w->commented ? "# " : "", w->dash ? "- " : "", text) >= 0) {
        w->out(w->ctx, whole);
        free(whole);
    }
    w->dash = false;
    free(text);
}

/* One comment, broken at spaces. Stands above a list item's first key, so it never carries the dash. */
static void comment(struct writer *w, const char *text)
{
    bool dash = w->dash;
    w->dash = false;
    while (*text) {
        size_t room = LINE_COLUMNS - w->indent, n = strcspn(text, "\n");
        if (n > room) {
            n = room;
            while (n > 0 && text[n] != ' ')
                n--;
            if (n == 0)
                n = room;
        }
        line(w, w->commented ? "  %.*s" : "# %.*s", (int)n, text);
        text += n;
        text += *text == ' ' || *text == '\n';
    }
    w->dash = dash;
}

static void help_of(struct writer *w, const struct conf_field *f)
{
    char allowed[512], text[768];
    if (!w->help)
        return;
    comment(w, f->help);
    conf_allowed(f, f->type, allowed, sizeof allowed);
    const char *reload = f->type == CONF_OBJECT ? "" : f->reload ? " Reloadable." : " Needs a restart.";
    if (f->type == CONF_OBJECT)
        return;
    if (!f->def)
        snprintf(text, sizeof text, "Required; %s.%s", allowed, reload);
    else if (!*f->def)
        snprintf(text, sizeof text, "Default: empty; %s.%s", allowed, reload);
    else
        snprintf(text, sizeof text, "Default: %s; %s.%s", f->def, allowed, reload);
    comment(w, text);
}

static void show_fields(struct writer *w, const struct conf_schema *s, const char *base);

static void show_list(struct writer *w, const struct conf_field *f, const struct conf_list *list)
{
    if (list->n == 0) {
        line(w, "%s: []", f->key);
        if (f->type == CONF_LIST && w->help) {
            bool was = w->commented;
            w->commented = true;
            w->indent += 2 * INDENT;
            w->dash = true;
            show_fields(w, f->schema, NULL);
            w->indent -= 2 * INDENT;
            w->commented = was;
        }
        return;
    }
    line(w, "%s:", f->key);
    w->indent += 2 * INDENT;
    bool help = w->help;
    for (size_t i = 0; i < list->n; i++) {
        w->dash = true;
        if (f->type == CONF_LIST) {
            show_fields(w, f->schema, (const char *)list->items + i * f->schema->size);
        } else {
            char *text = shown_string(f->item, *CONF_AT(*list, char *, i));
            line(w, "%s", text ? text : "");
            free(text);
        }
        w->help = false; /* once is enough */
    }
    w->help = help;
    w->indent -= 2 * INDENT;
}

/* base NULL: the table itself, by its defaults. */
static void show_fields(struct writer *w, const struct conf_schema *s, const char *base)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        const void *at = base ? base + f->offset : NULL;
        help_of(w, f);
        if (f->type == CONF_OBJECT) {
            line(w, "%s:", f->key);
            w->indent += INDENT;
            show_fields(w, f->schema, at);
            w->indent -= INDENT;
        } else if (f->type == CONF_LIST || f->type == CONF_STRINGS) {
            static const struct conf_list none = {NULL, 0};
            show_list(w, f, at ? (const struct conf_list *)at : &none);
        } else if (!at) {
            line(w, "%s: %s", f->key, !f->def ? "..." : *f->def ? f->def : "\"\"");
        } else {
            char *text = shown_scalar(f, at);
            line(w, "%s: %s", f->key, text ? text : "");
            free(text);
        }
    }
}

void conf_show(const struct conf_schema *s, const void *object, bool help, void (*out)(void *ctx, const char *line),
               void *ctx)
{
    struct writer w = {.out = out, .ctx = ctx, .help = help};
    show_fields(&w, s, object);
}

/* ---- reload ---- */

static void refuse(struct conf_report *r, const char *path, const struct conf_field *f)
{
    char *text;
    if (asprintf(&text,
                 "%s%s%s: changed, but that takes effect only at a start: restart the services, or set it back", path,
                 *path ? "." : "", f->key) < 0)
        text = NULL;
    conf_report_add(r, text);
}

static bool same(const struct conf_schema *s, const char *was, const char *now);

static bool same_list(const struct conf_field *f, const struct conf_list *was, const struct conf_list *now)
{
    if (was->n != now->n)
        return false;
    for (size_t i = 0; i < was->n; i++) {
        if (f->type == CONF_STRINGS ? strcmp(*CONF_AT(*was, char *, i), *CONF_AT(*now, char *, i)) != 0
                                    : !same(f->schema, (const char *)was->items + i * f->schema->size,
                                            (const char *)now->items + i * f->schema->size))
            return false;
    }
    return true;
}

static bool same_field(const struct conf_field *f, const void *was, const void *now)
{
    switch (f->type) {
    case CONF_BOOL:
        return *(const bool *)was == *(const bool *)now;
    case CONF_ENUM:
        return *(const int *)was == *(const int *)now;
    case CONF_INT:
    case CONF_DURATION:
    case CONF_SIZE:
    case CONF_PERCENT:
        return *(const int64_t *)was == *(const int64_t *)now;
    case CONF_OBJECT:
        return same(f->schema, was, now);
    case CONF_LIST:
    case CONF_STRINGS:
        return same_list(f, was, now);
    default:
        return strcmp(*(char *const *)was, *(char *const *)now) == 0;
    }
}

static bool same(const struct conf_schema *s, const char *was, const char *now)
{
    for (size_t i = 0; i < s->n; i++)
        if (!same_field(&s->fields[i], was + s->fields[i].offset, now + s->fields[i].offset))
            return false;
    return true;
}

static bool may_reload(const struct conf_schema *s, const char *was, const char *now, const char *path,
                       struct conf_report *r)
{
    bool ok = true;
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        if (f->reload || same_field(f, was + f->offset, now + f->offset))
            continue;
        if (f->type == CONF_OBJECT) {
            char deeper[256];
            snprintf(deeper, sizeof deeper, "%s%s%s", path, *path ? "." : "", f->key);
            if (!may_reload(f->schema, was + f->offset, now + f->offset, deeper, r))
                ok = false;
        } else {
            refuse(r, path, f);
            ok = false;
        }
    }
    return ok;
}

bool conf_same(const struct conf_schema *s, const void *a, const void *b)
{
    return same(s, a, b);
}

bool conf_may_reload(const struct conf_schema *s, const void *was, const void *now, struct conf_report *r)
{
    return may_reload(s, was, now, "", r);
}
