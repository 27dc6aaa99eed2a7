/* matcher.c - which alerts are meant: matchers parsed once, compared many times. */
#include "common/matcher.h"
#include "common/match.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VALUE_MAX 512

enum op { OP_EQUAL, OP_OTHER, OP_FITS, OP_FITS_NOT, OP_LEAST, OP_MOST };
/* Longer ones first: `=~` begins with `=`. */
static const struct {
    const char *text;
    enum op op;
} ops[] = {{"=~", OP_FITS},  {"!~", OP_FITS_NOT}, {"!=", OP_OTHER},
           {">=", OP_LEAST}, {"<=", OP_MOST},     {"=", OP_EQUAL}};
#define OPS (sizeof ops / sizeof *ops)

struct matcher {
    char *field;
    enum op op;
    char *value;
    int severity;          /* OP_LEAST, OP_MOST */
    bool caseless;         /* names of enums */
    struct match *pattern; /* OP_FITS, OP_FITS_NOT */
};
struct matchers {
    size_t n;
    struct matcher list[];
};

/* ---- fields ---- */

static const char *severity_of(const PB(Alert) * a)
{
    return a->severity ? wire_enum_name(&redoubt__v1__severity__descriptor, (int)a->severity) : "";
}

static const char *failure_of(const PB(Alert) * a)
{
    return a->failure_kind ? wire_enum_name(&redoubt__v1__failure_kind__descriptor, (int)a->failure_kind) : "";
}

static const char *source_of(const PB(Alert) * a)
{
    return a->source;
}
static const char *agent_of(const PB(Alert) * a)
{
    return a->agent;
}
static const char *target_of(const PB(Alert) * a)
{
    return a->target;
}
static const char *key_of(const PB(Alert) * a)
{
    return a->dedup_key;
}

static const struct field {
    const char *name;
    const char *(*of)(const PB(Alert) * a);
    const ProtobufCEnumDescriptor *names; /* NULL = any text */
} fields[] = {
    {"severity", severity_of, &redoubt__v1__severity__descriptor},
    {"failure_kind", failure_of, &redoubt__v1__failure_kind__descriptor},
    {"source", source_of, NULL},
    {"agent", agent_of, NULL},
    {"target", target_of, NULL},
    {"dedup_key", key_of, NULL},
};
#define FIELDS      (sizeof fields / sizeof *fields)
#define LABEL       "label."
#define LABEL_CHARS "abcdefghijklmnopqrstuvwxyz0123456789_.-"

static const struct field *field_named(const char *name)
{
    for (size_t i = 0; i < FIELDS; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static const char *label_key(const char *field)
{
    size_t n = strlen(LABEL);
    return strncmp(field, LABEL, n) == 0 && field[n] ? field + n : NULL;
}

bool matcher_field_ok(const char *field)
{
    const char *key = label_key(field);
    return field_named(field) || (key && key[strspn(key, LABEL_CHARS)] == 0);
}

const char *matcher_field(const PB(Alert) * a, const char *field)
{
    const char *key = label_key(field), *value = NULL;
    if (key) {
        for (size_t i = 0; i < a->n_labels && !value; i++)
            if (a->labels[i]->key && strcmp(a->labels[i]->key, key) == 0)
                value = a->labels[i]->value;
        return value ? value : "";
    }
    const struct field *f = field_named(field);
    if (!f)
        return NULL;
    value = f->of(a);
    return value ? value : "";
}

/* ---- reading ---- */

/* -1 if there is no such name. */
static int enum_value(const ProtobufCEnumDescriptor *names, const char *text)
{
    for (unsigned i = 0; i < names->n_values; i++) {
        int value = names->values[i].value;
        if (value && strcasecmp(wire_enum_name(names, value), text) == 0)
            return value;
    }
    return -1;
}

static int read_value(struct matcher *m, const struct field *f, struct err *e)
{
    const ProtobufCEnumDescriptor *names = f ? f->names : NULL;
    bool order = m->op == OP_LEAST || m->op == OP_MOST;
    m->caseless = names != NULL;
    if (order && names != &redoubt__v1__severity__descriptor)
        return err_set(e, ">= and <= are for severity");
    if (m->op == OP_FITS || m->op == OP_FITS_NOT) {
        char pattern[VALUE_MAX + 8];
        struct err why;
        snprintf(pattern, sizeof pattern, "%s%s", m->caseless ? "(?i)" : "", m->value);
        m->pattern = match_compile(pattern, MATCH_WHOLE, &why);
        return m->pattern ? 0 : err_set(e, "%s", why.text);
    }
    int value = names && *m->value ? enum_value(names, m->value) : 0;
    if (value < 0 || (order && value == 0))
        return err_set(e, "`%.64s` is no %s", m->value, f->name);
    m->severity = value;
    return 0;
}

/* `target=~a|b`: the operator is the first that stands there. */
static int read_one(struct matcher *m, const char *text, struct err *e)
{
    size_t at = strcspn(text, "=!<>"), op = 0;
    while (op < OPS && strncmp(text + at, ops[op].text, strlen(ops[op].text)) != 0)
        op++;
    if (at == 0 || op == OPS)
        return err_set(e, "needs FIELD, then one of = != =~ !~ >= <=, then the value");
    const char *value = text + at + strlen(ops[op].text);
    if (strlen(value) > VALUE_MAX)
        return err_set(e, "the value is longer than %d bytes", VALUE_MAX);
    m->op = ops[op].op;
    m->field = strndup(text, at);
    m->value = strdup(value);
    if (!m->field || !m->value)
        return err_set(e, "out of memory");
    if (!matcher_field_ok(m->field))
        return err_set(
            e,
            "`%.64s` is no field; fields are severity, source, agent, target, failure_kind, dedup_key and label.KEY",
            m->field);
    return read_value(m, field_named(m->field), e);
}

struct matchers *matchers_new(const char *const *texts, size_t n, struct err *e)
{
    struct matchers *m = calloc(1, sizeof *m + n * sizeof *m->list);
    if (!m) {
        err_set(e, "out of memory");
        return NULL;
    }
    m->n = n;
    for (size_t i = 0; i < n; i++) {
        struct err why;
        if (read_one(&m->list[i], texts[i], &why)) {
            err_set(e, "`%.80s`: %s", texts[i], why.text);
            matchers_free(m);
            return NULL;
        }
    }
    return m;
}

void matchers_free(struct matchers *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++) {
        free(m->list[i].field);
        free(m->list[i].value);
        match_free(m->list[i].pattern);
    }
    free(m);
}

/* ---- comparing ---- */

static bool fits(const struct matcher *m, const PB(Alert) * a)
{
    const char *is = matcher_field(a, m->field);
    switch (m->op) {
    case OP_EQUAL:
    case OP_OTHER: {
        bool same = (m->caseless ? strcasecmp(is, m->value) : strcmp(is, m->value)) == 0;
        return same == (m->op == OP_EQUAL);
    }
    case OP_FITS:
        return match_run(m->pattern, is, strlen(is)) != MATCH_NO;
    case OP_FITS_NOT:
        return match_run(m->pattern, is, strlen(is)) != MATCH_YES;
    case OP_LEAST:
        return (int)a->severity >= m->severity;
    case OP_MOST:
        return (int)a->severity <= m->severity;
    }
    return false;
}

bool matchers_fit(const struct matchers *m, const PB(Alert) * a)
{
    for (size_t i = 0; i < m->n; i++)
        if (!fits(&m->list[i], a))
            return false;
    return true;
}
