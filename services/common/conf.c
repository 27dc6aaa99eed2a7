/* conf.c - YAML into structs by a table; every problem with its file, line and key. */
#include "common/conf.h"
#include "common/conf_impl.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#define FILE_MAX       (64u << 20) /* 100,000 targets with a probe of their own are about 15 MiB */
#define PATH_MAX_BYTES 256

/* The reading of one file. */
struct conf_ctx {
    const char *name;
    yaml_document_t *doc;
    struct conf_report *report;
    size_t problems;              /* all, also those that the report had no room for */
    char path[PATH_MAX_BYTES];    /* of what is being read: `targets[2].probe` */
    yaml_node_t *object;          /* the mapping now being checked; NULL if it is left out of the file */
    size_t line;                  /* where it stands, or where its parent does */
    struct conf_report *literals; /* secrets that stand in the file itself are told here; NULL = nobody asks */
};

/* ---- problems ---- */

void conf_report_add(struct conf_report *r, char *line)
{
    char **bigger = line && r->n < CONF_PROBLEMS_MAX ? realloc(r->lines, (r->n + 1) * sizeof *bigger) : NULL;
    if (!bigger) {
        free(line);
        return;
    }
    r->lines = bigger;
    r->lines[r->n++] = line;
}

void conf_report_free(struct conf_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->lines[i]);
    free(r->lines);
    *r = (struct conf_report){NULL, 0};
}

__attribute__((format(printf, 3, 0))) static void problem_at(struct conf_ctx *c, size_t line, const char *fmt,
                                                             va_list ap)
{
    char *what = NULL, *whole = NULL;
    if (vasprintf(&what, fmt, ap) < 0)
        what = NULL;
    if (what && asprintf(&whole, "%s:%zu: %s%s%s", c->name, line, c->path, c->path[0] ? ": " : "", what) < 0)
        whole = NULL;
    free(what);
    conf_report_add(c->report, whole);
    c->problems++;
}

__attribute__((format(printf, 3, 4))) static void problem(struct conf_ctx *c, size_t line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    problem_at(c, line, fmt, ap);
    va_end(ap);
}

/* Appends `.key` or `[i]` to the path; returns the length to go back to. */
static size_t enter_key(struct conf_ctx *c, const char *key)
{
    size_t n = strlen(c->path), at = n, len = strlen(key), room;
    if (n && at < sizeof c->path - 1)
        c->path[at++] = '.';
    room = sizeof c->path - 1 - at;
    memcpy(c->path + at, key, len < room ? len : room);
    c->path[at + (len < room ? len : room)] = 0;
    return n;
}

static size_t enter_item(struct conf_ctx *c, size_t i)
{
    size_t n = strlen(c->path);
    snprintf(c->path + n, sizeof c->path - n, "[%zu]", i);
    return n;
}

static void leave(struct conf_ctx *c, size_t n)
{
    c->path[n] = 0;
}

static size_t line_of(const yaml_node_t *n)
{
    return n->start_mark.line + 1;
}

/* ---- nodes ---- */

static const char *scalar(const yaml_node_t *n)
{
    return (const char *)n->data.scalar.value;
}

/* `key:` with nothing behind it, `~` or `null`: the setting is left out. */
static bool is_null(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (n->data.scalar.length == 0 || strcmp(scalar(n), "~") == 0 || strcmp(scalar(n), "null") == 0);
}

static const char *node_text(const yaml_node_t *n, char *buf, size_t room)
{
    if (n->type == YAML_SEQUENCE_NODE)
        return "a list";
    if (n->type == YAML_MAPPING_NODE)
        return "keys with values";
    char safe[80];
    snprintf(buf, room, "`%s`", conf_safe_text(scalar(n), safe, sizeof safe));
    return buf;
}

static yaml_node_t *node(struct conf_ctx *c, int id)
{
    return yaml_document_get_node(c->doc, id);
}

static yaml_node_t *child(struct conf_ctx *c, yaml_node_t *map, const char *key, size_t len)
{
    if (map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        yaml_node_t *k = node(c, p->key);
        if (k && k->type == YAML_SCALAR_NODE && k->data.scalar.length == len && memcmp(scalar(k), key, len) == 0)
            return node(c, p->value);
    }
    return NULL;
}

/* The line of `key` (which may be a path such as `chain[1].target`) below the object being checked; as near as the file gets. */
static size_t find_line(struct conf_ctx *c, const char *key)
{
    yaml_node_t *n = c->object;
    size_t line = n ? line_of(n) : c->line;
    while (n && key && *key) {
        if (*key == '[') {
            char *end;
            unsigned long i = strtoul(key + 1, &end, 10);
            bool there = n->type == YAML_SEQUENCE_NODE &&
                         i < (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
            n = there ? node(c, n->data.sequence.items.start[i]) : NULL;
            key = *end == ']' ? end + 1 : end;
        } else {
            size_t len = strcspn(key, ".[");
            n = child(c, n, key, len);
            key += len;
        }
        if (*key == '.')
            key++;
        if (n)
            line = line_of(n);
    }
    return line;
}

void conf_problem(struct conf_ctx *ctx, const char *key, const char *fmt, ...)
{
    size_t back = key ? enter_key(ctx, key) : strlen(ctx->path);
    va_list ap;
    va_start(ap, fmt);
    problem_at(ctx, find_line(ctx, key), fmt, ap);
    va_end(ap);
    leave(ctx, back);
}

/* ---- unknown keys ---- */

#define KEY_MAX 40

/* Damerau-Levenshtein distance (optimal string alignment): insertions, deletions, replacements, swapped neighbours. */
static size_t distance(const char *a, const char *b)
{
    size_t la = strnlen(a, KEY_MAX), lb = strnlen(b, KEY_MAX);
    size_t d[3][KEY_MAX + 1];
    for (size_t k = 0; k <= lb; k++)
        d[0][k] = k;
    for (size_t i = 1; i <= la; i++) {
        size_t *row = d[i % 3], *above = d[(i - 1) % 3], *above2 = d[(i + 1) % 3];
        row[0] = i;
        for (size_t k = 1; k <= lb; k++) {
            size_t best = above[k - 1] + (a[i - 1] != b[k - 1]);
            if (above[k] + 1 < best)
                best = above[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] && above2[k - 2] + 1 < best)
                best = above2[k - 2] + 1;
            row[k] = best;
        }
    }
    return d[la % 3][lb];
}

static void unknown_key(struct conf_ctx *c, const struct conf_schema *s, const yaml_node_t *key)
{
    if (c->report->n >= CONF_PROBLEMS_MAX)
        return;
    char safe[80], known[512] = "";
    size_t n = 0, nearest = 0, least = SIZE_MAX;
    for (size_t i = 0; i < s->n; i++) {
        size_t d = distance(scalar(key), s->fields[i].key);
        if (d < least) {
            least = d;
            nearest = i;
        }
        int more = snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", s->fields[i].key);
        n += more > 0 && (size_t)more < sizeof known - n ? (size_t)more : 0;
    }
    const char *hint =
        strcmp(scalar(key), "<<") == 0 ? " (merge keys are not supported; plain anchors and aliases are)" : "";
    problem(c, line_of(key), "found unknown key `%s`%s; the nearest known one is `%s`; allowed: %s",
            conf_safe_text(scalar(key), safe, sizeof safe), hint, s->fields[nearest].key, known);
}

/* ---- reading ---- */

static void read_object(struct conf_ctx *c, const struct conf_schema *s, yaml_node_t *n, size_t line, char *base);

static void not_allowed(struct conf_ctx *c, const struct conf_field *f, enum conf_type type, const yaml_node_t *n,
                        const char *why)
{
    char found[96], allowed[512];
    const char *shown =
        type == CONF_SECRET && n->type == YAML_SCALAR_NODE ? "***" : node_text(n, found, sizeof found);
    problem(c, line_of(n), "found %s%s%s; allowed: %s", shown, *why ? ": " : "", why,
            conf_allowed(f, type, allowed, sizeof allowed));
}

/* Most strings of most objects are left out: those share the table's own text, which nobody changes or frees. */
static char *default_text(const struct conf_field *f)
{
    return (char *)(uintptr_t)f->def;
}

static void free_text(const struct conf_field *f, char *text)
{
    if (text != f->def)
        free(text);
}

/* A secret that is written out, instead of being named. A URL is one by what it says beside its host. */
static bool literal(const char *text)
{
    const char *ref = strstr(text, "${"), *rest = strstr(text, "://");
    while (ref && ref > text && ref[-1] == '$')
        ref = strstr(ref + 1, "${");
    if (ref || !*text)
        return false;
    if (!rest)
        return true;
    rest += 3;
    const char *path = rest + strcspn(rest, "/?#");
    bool web = strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
    return memchr(rest, '@', (size_t)(path - rest)) || (web && strlen(path) > 1);
}

static void read_scalar(struct conf_ctx *c, const struct conf_field *f, enum conf_type type, yaml_node_t *n, void *at)
{
    struct err e = {""};
    if (n->type != YAML_SCALAR_NODE) {
        not_allowed(c, f, type, n, "");
        return;
    }
    if (strlen(scalar(n)) != n->data.scalar.length) {
        not_allowed(c, f, type, n, "it holds NUL");
        return;
    }
    bool changed;
    if (c->literals && type == CONF_SECRET && literal(scalar(n))) {
        char *line;
        if (asprintf(&line, "%s:%zu: %s", c->name, line_of(n), c->path) >= 0)
            conf_report_add(c->literals, line);
    }
    char *text = conf_expand(scalar(n), &changed, &e);
    if (!text)
        problem(c, line_of(n), "%s", e.text);
    else if (!conf_scalar(f, type, text, at, &e))
        not_allowed(c, f, type, n, *e.text ? e.text : changed ? "after substitution it is not what is allowed" : "");
    free(text);
}

static bool count_ok(struct conf_ctx *c, const struct conf_field *f, const yaml_node_t *n, size_t count)
{
    char allowed[512];
    size_t max = f->max ? (size_t)f->max : CONF_ITEMS_MAX;
    bool empty_ok = f->def && !*f->def;
    if ((count >= (size_t)f->min && count <= max) || (count == 0 && empty_ok))
        return true;
    problem(c, line_of(n), "found %zu items; allowed: %s", count, conf_allowed(f, f->type, allowed, sizeof allowed));
    return false;
}

/* CONF_LIST and CONF_STRINGS. */
static void read_list(struct conf_ctx *c, const struct conf_field *f, yaml_node_t *n, struct conf_list *list)
{
    if (n->type != YAML_SEQUENCE_NODE) {
        not_allowed(c, f, f->type, n, "");
        return;
    }
    yaml_node_item_t *items = n->data.sequence.items.start;
    size_t count = (size_t)(n->data.sequence.items.top - items);
    if (!count_ok(c, f, n, count) || count == 0)
        return;
    size_t size = f->type == CONF_LIST ? f->schema->size : sizeof(char *);
    list->items = calloc(count, size);
    if (!list->items) {
        problem(c, line_of(n), "out of memory");
        return;
    }
    list->n = count;
    for (size_t i = 0; i < count; i++) {
        size_t back = enter_item(c, i);
        yaml_node_t *item = node(c, items[i]);
        char *at = (char *)list->items + i * size;
        if (f->type == CONF_LIST && is_null(item))
            not_allowed(c, f, CONF_OBJECT, item, "the item is empty");
        else if (f->type == CONF_LIST)
            read_object(c, f->schema, item, line_of(item), at);
        else
            read_scalar(c, f, f->item, item, at);
        leave(c, back);
    }
}

static void read_default(struct conf_ctx *c, const struct conf_field *f, size_t line, char *at)
{
    char allowed[512];
    if (!f->def) {
        problem(c, line, "required, but left out; allowed: %s", conf_allowed(f, f->type, allowed, sizeof allowed));
    } else if (f->type == CONF_OBJECT) {
        read_object(c, f->schema, NULL, line, at);
    } else if (f->type == CONF_LIST || f->type == CONF_STRINGS) {
        assert(!*f->def && "the default of a list is the empty one");
    } else if (conf_is_string(f->type)) {
        *(char **)(void *)at = default_text(f);
    } else {
        struct err e;
        bool ok = conf_scalar(f, f->type, f->def, at, &e);
        assert(ok && "a default in the table is not what the table allows");
        (void)ok;
    }
}

static void read_field(struct conf_ctx *c, const struct conf_field *f, yaml_node_t *n, size_t line, char *at)
{
    if (!n || is_null(n))
        read_default(c, f, n ? line_of(n) : line, at);
    else if (f->type == CONF_OBJECT)
        read_object(c, f->schema, n, line_of(n), at);
    else if (f->type == CONF_LIST || f->type == CONF_STRINGS)
        read_list(c, f, n, (struct conf_list *)(void *)at);
    else
        read_scalar(c, f, f->type, n, at);
}

static const struct conf_field *find_field(const struct conf_schema *s, const yaml_node_t *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->fields[i].key, scalar(key)) == 0 && strlen(scalar(key)) == key->data.scalar.length)
            return &s->fields[i];
    return NULL;
}

/* Unknown keys, keys given twice, keys that are none. */
static void check_keys(struct conf_ctx *c, const struct conf_schema *s, yaml_node_t *n)
{
    uint64_t seen = 0;
    assert(s->n <= 64);
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *key = node(c, p->key);
        if (key->type != YAML_SCALAR_NODE) {
            problem(c, line_of(key), "found %s as a key; allowed: a name",
                    key->type == YAML_SEQUENCE_NODE ? "a list" : "keys with values");
            continue;
        }
        const struct conf_field *f = find_field(s, key);
        if (!f) {
            unknown_key(c, s, key);
            continue;
        }
        uint64_t bit = UINT64_C(1) << (f - s->fields);
        if (seen & bit) {
            size_t back = enter_key(c, f->key);
            problem(c, line_of(key), "given twice; first in line %zu", line_of(child(c, n, f->key, strlen(f->key))));
            leave(c, back);
        }
        seen |= bit;
    }
}

static void read_object(struct conf_ctx *c, const struct conf_schema *s, yaml_node_t *n, size_t line, char *base)
{
    size_t before = c->problems;
    if (n && is_null(n))
        n = NULL;
    if (n && n->type != YAML_MAPPING_NODE) {
        char found[96];
        problem(c, line_of(n), "found %s; allowed: keys with values", node_text(n, found, sizeof found));
        return;
    }
    if (n)
        check_keys(c, s, n);
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        size_t back = enter_key(c, f->key);
        read_field(c, f, n ? child(c, n, f->key, strlen(f->key)) : NULL, n ? line_of(n) : line, base + f->offset);
        leave(c, back);
    }
    if (s->check && c->problems == before) {
        c->object = n;
        c->line = line;
        s->check(base, c);
    }
}

static void free_object(const struct conf_schema *s, char *base)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        char *at = base + f->offset;
        if (conf_is_string(f->type)) {
            free_text(f, *(char **)(void *)at);
        } else if (f->type == CONF_OBJECT) {
            free_object(f->schema, at);
        } else if (f->type == CONF_LIST || f->type == CONF_STRINGS) {
            struct conf_list *list = (struct conf_list *)(void *)at;
            for (size_t k = 0; k < list->n; k++) {
                if (f->type == CONF_LIST)
                    free_object(f->schema, (char *)list->items + k * f->schema->size);
                else
                    free(*CONF_AT(*list, char *, k));
            }
            free(list->items);
        }
    }
}

void conf_free(const struct conf_schema *s, void *object)
{
    if (object)
        free_object(s, object);
    free(object);
}

/* ---- files ---- */

static size_t line_at(const char *text, size_t len, size_t offset)
{
    size_t line = 1;
    for (size_t i = 0; i < len && i < offset; i++)
        line += text[i] == '\n';
    return line;
}

static void yaml_problem(struct conf_ctx *c, const yaml_parser_t *p, const char *text, size_t len)
{
    size_t line = p->error == YAML_READER_ERROR ? line_at(text, len, p->problem_offset) : p->problem_mark.line + 1;
    problem(c, line, "not YAML: %s%s%s", p->problem ? p->problem : "cannot be read", p->context ? ", " : "",
            p->context ? p->context : "");
}

/* Limits that no settings file comes near: libyaml takes time with the square of the depth, and of the number of anchors. */
#define DEPTH_MAX   32
#define ANCHORS_MAX 1000

/* Reads the events alone, up to the first mistake (which loading will report). False with a problem if a limit is passed. */
static bool within_limits(struct conf_ctx *c, const char *text, size_t len)
{
    yaml_parser_t p;
    unsigned depth = 0, anchors = 0;
    bool ok = true, more = true;
    if (!yaml_parser_initialize(&p))
        return true;
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    while (ok && more) {
        yaml_event_t e;
        if (!yaml_parser_parse(&p, &e))
            break;
        const yaml_char_t *anchor = NULL;
        if (e.type == YAML_SEQUENCE_START_EVENT || e.type == YAML_MAPPING_START_EVENT) {
            depth++;
            anchor = e.type == YAML_SEQUENCE_START_EVENT ? e.data.sequence_start.anchor : e.data.mapping_start.anchor;
        } else if (e.type == YAML_SEQUENCE_END_EVENT || e.type == YAML_MAPPING_END_EVENT) {
            depth--;
        } else if (e.type == YAML_SCALAR_EVENT) {
            anchor = e.data.scalar.anchor;
        }
        anchors += anchor != NULL;
        if (depth > DEPTH_MAX)
            problem(c, e.start_mark.line + 1, "nested more than %d deep", DEPTH_MAX);
        else if (anchors > ANCHORS_MAX)
            problem(c, e.start_mark.line + 1, "found more than %d anchors", ANCHORS_MAX);
        ok = depth <= DEPTH_MAX && anchors <= ANCHORS_MAX;
        more = e.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&p);
    return ok;
}

/* The document's object, or NULL with the problems in the report. */
static void *read_document(struct conf_ctx *c, const struct conf_schema *s)
{
    yaml_node_t *root = yaml_document_get_root_node(c->doc);
    if (!root || is_null(root)) {
        problem(c, 1, "the file is empty; allowed: settings in YAML");
        return NULL;
    }
    void *object = calloc(1, s->size);
    if (object)
        read_object(c, s, root, line_of(root), object);
    else
        problem(c, 1, "out of memory");
    return object;
}

static void *parse(const struct conf_schema *s, const char *name, const char *text, size_t len, struct conf_report *r,
                   struct conf_report *literals)
{
    struct conf_ctx c = {.name = name, .report = r, .literals = literals};
    const char *nul = len ? memchr(text, 0, len) : NULL;
    if (len > FILE_MAX) {
        problem(&c, 1, "found more than %u MiB; allowed: settings in YAML", FILE_MAX >> 20);
        return NULL;
    }
    if (nul) {
        problem(&c, line_at(text, len, (size_t)(nul - text)), "found a NUL byte: this is no text file");
        return NULL;
    }
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3; /* a byte order mark, as some editors write it */
        len -= 3;
    }
    if (!within_limits(&c, text, len))
        return NULL;
    yaml_parser_t p;
    yaml_document_t doc;
    if (!yaml_parser_initialize(&p)) {
        problem(&c, 1, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    void *object = NULL;
    if (!yaml_parser_load(&p, &doc)) {
        yaml_problem(&c, &p, text, len);
    } else {
        c.doc = &doc;
        object = read_document(&c, s);
        yaml_document_delete(&doc);
        c.path[0] = 0;
        if (!yaml_parser_load(&p, &doc)) {
            yaml_problem(&c, &p, text, len);
        } else {
            yaml_node_t *second = yaml_document_get_root_node(&doc);
            if (second)
                problem(&c, line_of(second), "found a second document; allowed: one per file");
            yaml_document_delete(&doc);
        }
    }
    yaml_parser_delete(&p);
    if (c.problems > 0) {
        conf_free(s, object);
        return NULL;
    }
    return object;
}

void *conf_parse(const struct conf_schema *s, const char *name, const char *text, size_t len, struct conf_report *r)
{
    return parse(s, name, text, len, r, NULL);
}

void conf_literals(const struct conf_schema *s, const char *name, const char *text, size_t len, struct conf_report *r)
{
    struct conf_report problems = {0};
    conf_free(s, parse(s, name, text, len, &problems, r));
    conf_report_free(&problems);
}

static char *read_whole(int fd, size_t *ret_len)
{
    size_t room = 4096, n = 0;
    char *buf = malloc(room);
    while (buf && n <= FILE_MAX) {
        if (n == room) {
            char *bigger = realloc(buf, room *= 2);
            if (!bigger)
                free(buf);
            buf = bigger;
            continue;
        }
        ssize_t got = read(fd, buf + n, room - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int why = errno;
            free(buf);
            errno = why;
            return NULL;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *ret_len = n;
    return buf;
}

void *conf_load(const struct conf_schema *s, const char *path, struct conf_report *r)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    char *text = fd >= 0 ? read_whole(fd, &len) : NULL;
    void *object = NULL;
    if (text) {
        object = conf_parse(s, is_stdin ? "stdin" : path, text, len, r);
    } else {
        char *line;
        if (asprintf(&line, "%s: cannot be read: %s; name the settings file with -c or $REDOUBT_CONFIG", path,
                     strerror(errno)) < 0)
            line = NULL;
        conf_report_add(r, line);
    }
    if (fd >= 0 && !is_stdin)
        close(fd);
    free(text);
    return object;
}
