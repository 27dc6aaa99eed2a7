/* fuzz_conf.c - conf_parse() of the suite's own table: whatever the text, an object or problems, never both or neither. */
#include "common/settings.h"
#include "random.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t accepted, tried;

struct shown {
    char *text;
    size_t n, room;
};

static void keep(void *ctx, const char *line)
{
    struct shown *s = ctx;
    size_t len = strlen(line);
    while (s->n + len + 2 > s->room)
        s->text = realloc(s->text, s->room = s->room * 2 + 4096);
    memcpy(s->text + s->n, line, len);
    s->n += len;
    s->text[s->n++] = '\n';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_report r = {0};
    if (size > 65536)
        return 0;
    tried++;
    void *object = conf_parse(&settings_schema, "fuzz", (const char *)data, size, &r);
    assert((object != NULL) == (r.n == 0));
    for (size_t i = 0; i < r.n; i++)
        assert(strncmp(r.lines[i], "fuzz:", 5) == 0);
    conf_report_free(&r);
    if (!object)
        return 0;
    accepted++;
    assert(conf_may_reload(&settings_schema, object, object, &r) && r.n == 0);
    /* What is shown is YAML that differs from the original in its secrets alone. */
    struct shown s = {0};
    conf_show(&settings_schema, object, size % 2, keep, &s);
    void *again = conf_parse(&settings_schema, "fuzz", s.text, s.n, &r);
    for (size_t i = 0; i < r.n; i++)
        assert(strstr(r.lines[i], "url") && "only a masked URL may be refused");
    conf_free(&settings_schema, again);
    conf_report_free(&r);
    free(s.text);
    conf_free(&settings_schema, object);
    return 0;
}

/* ---- inputs: lines of settings, mostly right, in YAML that is mostly right ---- */

struct out {
    uint8_t *buf;
    size_t n, room;
};

static void put(struct out *o, const char *s)
{
    size_t len = strlen(s);
    if (o->n + len <= o->room) {
        memcpy(o->buf + o->n, s, len);
        o->n += len;
    }
}

static const char *const values[] = {"x",
                                     "a.b",
                                     "30s",
                                     "5m",
                                     "250ms",
                                     "1h",
                                     "0",
                                     "7",
                                     "50%",
                                     "64KiB",
                                     "true",
                                     "off",
                                     "''",
                                     "\"q\"",
                                     "~",
                                     "null",
                                     "-1",
                                     "info",
                                     "llm",
                                     "http",
                                     "/tmp/x",
                                     "*a",
                                     "&a x",
                                     "[a, b]",
                                     "{a: b}",
                                     "[",
                                     "}",
                                     "${A}",
                                     "${A:-x}",
                                     "${A:-${B:-${C:-5s}}}",
                                     "${file:/dev/null}",
                                     "${file:/no}",
                                     "$${x}",
                                     "http://h/x",
                                     "smtp://u:p@h:25",
                                     "nats://h:4222",
                                     "99999999999999999999",
                                     "\"\\0\"",
                                     "\"\\u263a\"",
                                     "|\n      text",
                                     "1h30m",
                                     "\xff\xfe",
                                     "\xe2\x82\xac",
                                     "!!int 5",
                                     "<<",
                                     "? x",
                                     "- x",
                                     "# c",
                                     "\t",
                                     "deep: {er: 1}"};

static const char *value(struct fuzz_random *r)
{
    return values[fuzz_below(r, sizeof values / sizeof values[0])];
}

static void put_default(struct fuzz_random *r, struct out *o, const struct conf_field *f)
{
    put(o, fuzz_below(r, 12) == 0 ? value(r) : !f->def ? "name-1" : *f->def ? f->def : "''");
}

static void put_object(struct fuzz_random *r, struct out *o, const struct conf_schema *s, unsigned indent);

static void put_field(struct fuzz_random *r, struct out *o, const struct conf_field *f, unsigned indent)
{
    char pad[64];
    snprintf(pad, sizeof pad, "%*s", (int)(indent < 40 ? indent : 40), "");
    put(o, f->key);
    put(o, fuzz_below(r, 100) == 0 ? " " : ": ");
    if (f->type == CONF_OBJECT) {
        put(o, fuzz_below(r, 10) == 0 ? "&a\n" : "\n");
        put_object(r, o, f->schema, indent + 2);
    } else if (f->type == CONF_LIST) {
        put(o, "\n");
        for (size_t n = fuzz_below(r, 3) + 1; n > 0; n--) {
            put(o, pad);
            put(o, "  - # item\n");
            put_object(r, o, f->schema, indent + 4);
        }
    } else if (f->type == CONF_STRINGS) {
        put(o, "[a@b, ");
        put(o, value(r));
        put(o, "]\n");
    } else if (f->type == CONF_ENUM && fuzz_below(r, 10) > 0) {
        size_t n = 0;
        while (f->choices[n])
            n++;
        put(o, f->choices[fuzz_below(r, n)]);
        put(o, "\n");
    } else {
        put_default(r, o, f);
        put(o, "\n");
    }
}

static void put_object(struct fuzz_random *r, struct out *o, const struct conf_schema *s, unsigned indent)
{
    char pad[64];
    snprintf(pad, sizeof pad, "%*s", (int)(indent < 40 ? indent : 40), "");
    for (size_t i = 0; i < s->n; i++) {
        if (s->fields[i].def && fuzz_below(r, 3) > 0)
            continue;
        put(o, pad);
        put_field(r, o, &s->fields[i], indent);
    }
    if (fuzz_below(r, 20) == 0) {
        put(o, pad);
        put(o, value(r));
        put(o, ": ");
        put(o, value(r));
        put(o, "\n");
    }
}

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    struct out o = {buf, 0, room < 60000 ? room : 60000};
    if (fuzz_below(r, 4) == 0) { /* small files without lists are often right as a whole */
        static const char *const starts[] = {"log: {level: debug}\n", "tilt_hold: 5s\n",
                                             "nats:\n  url: nats://u:pw@h:1\n", "--- \n"};
        put(&o, starts[fuzz_below(r, 4)]);
        put(&o, fuzz_below(r, 2) ? "redis: {port: 5}\n" : "targets: [{name: a, kind: llm}]\n");
    } else {
        put_object(r, &o, &settings_schema, 0);
    }
    if (fuzz_below(r, 200) == 0) { /* the same thing over and over: whatever grows with its square shows */
        static const char *const again[] = {"[",  "{",   "- ",  "&a ", "*a,", "? ",    "!x ", "'",
                                            "\"", "a: ", "|\n", "%",   "${",  "${a:-", "#"};
        const char *what = again[fuzz_below(r, sizeof again / sizeof again[0])];
        for (size_t n = fuzz_below(r, 20000); n > 0; n--)
            put(&o, what);
    }
    return fuzz_below(r, 2) == 0 ? fuzz_mutate(r, buf, o.n, o.room) : o.n;
}

static void fuzz_report(void)
{
    printf("%llu of %llu files were right\n", (unsigned long long)accepted, (unsigned long long)tried);
    assert(tried < 1000 || accepted > tried / 20);
}

#include "driver.h"
