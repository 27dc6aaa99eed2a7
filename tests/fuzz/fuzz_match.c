/* fuzz_match.c - patterns, paths, escapes and header lines from anybody, on subjects from anybody: a result, and soon. */
#include "common/escape.h"
#include "common/hostport.h"
#include "common/http.h"
#include "common/jsonpath.h"
#include "common/match.h"
#include "random.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t tried, patterns, matched, limits, paths, found;

static void try_pattern(const char *pattern, const char *subject, size_t len, enum match_mode mode)
{
    struct err e = {""};
    struct match *m = match_compile(pattern, mode, &e);
    assert((m != NULL) == (*e.text == 0));
    if (!m)
        return;
    patterns++;
    for (int i = 0; i < 2; i++) { /* the second time as the first */
        enum match_result r = match_run(m, subject, len);
        matched += r == MATCH_YES;
        limits += r == MATCH_LIMIT;
        assert(*match_why(m));
    }
    match_free(m);
}

static void try_path(const char *path, const char *body, size_t len)
{
    struct err e = {""};
    struct jsonpath *p = jsonpath_compile(path, &e);
    assert((p != NULL) == (*e.text == 0));
    json_t *doc = json_loadb(body, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    const json_t *v = p && doc ? jsonpath_find(p, doc) : NULL;
    paths += p != NULL;
    if (v) {
        char *text = jsonpath_text(v);
        found++;
        assert(text);
        /* A string may hold a NUL, which no text of the settings can. */
        assert(jsonpath_equals(v, text));
        free(text);
    }
    json_decref(doc);
    jsonpath_free(p);
}

/* The text up to the first zero is pattern and path, the rest the subject. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = 0;
    while (cut < size && data[cut])
        cut++;
    char *text = strndup((const char *)data, cut);
    size_t from = cut < size ? cut + 1 : size, len = size - from;
    char *subject = malloc(len ? len : 1), *bytes = malloc(cut ? cut : 1), host[HOSTPORT_HOST_MAX];
    memcpy(subject, data + from, len);
    tried++;
    try_pattern(text, subject, len, MATCH_TEXT);
    try_pattern(text, subject, len, MATCH_BYTES);
    try_path(text, subject, len);
    size_t n = 0, name_len;
    int port;
    const char *value;
    if (escape_decode(text, bytes, &n, NULL) == 0)
        assert(n <= cut);
    if (http_header_split(text, &name_len, &value))
        assert(name_len > 0 && text[name_len] == ':' && value > text + name_len);
    if (hostport_split(text, 53, host, &port) == 0)
        assert(*host && port > 0 && port < 65536);
    free(bytes);
    free(subject);
    free(text);
    return 0;
}

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

#define PICK(r, list) list[fuzz_below(r, sizeof list / sizeof list[0])]

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    static const char *const pieces[] = {
        "a",   "b",     ".",     "*",      "+",      "?",    "(",        ")",    "[a-c]",  "[^x]",
        "|",   "^",     "$",     "\\d",    "\\w+",   "{2}",  "{1,9}",    "(?:",  "(?=",    "(?<=a)",
        "\\1", "(?1)",  "(?R)",  "\\xff",  "\\p{L}", "(?i)", "\xc3\xa9", "\xff", "(*UTF)", "(*ACCEPT)",
        "\\K", "(a+)+", "(.*)*", "(?>a+)", "\\Q",    "\\E",  "(?|a|b)",  "\\b",  "(?C1)",  "(*LIMIT_MATCH=9)"};
    static const char *const steps[] = {
        ".a",   ".b",   "['a']",       "[\"b\"]", "[0]",      "[-1]", " ",  "['\\u0061']",
        "[1]",  "['']", "['\\'']",     ".",       "[",        "*",    "..", "['\\ud83d\\ude00']",
        "[01]", "[:1]", "['\\u0000']", "[-0]",    "\xc3\xa9", "['a"};
    static const char *const values[] = {"{\"a\":",
                                         "}",
                                         "[",
                                         "]",
                                         ",",
                                         "1",
                                         "-2.50",
                                         "1e400",
                                         "\"a\"",
                                         "\"\\u0000\"",
                                         "null",
                                         "true",
                                         "{\"a\":{\"a\":[1,2,{\"b\":\"x\"}]}}",
                                         "[[{\"a\":[0]}]]",
                                         "{\"\":1,\"b\":{}}"};
    static const char *const texts[] = {"a", "b", "aaaaaaaaaaaaaaaaaaaaaaaa", "abc ", "1", "\n", "\xc3\xa9", "\xff"};
    struct out o = {buf, 0, room < 20000 ? room : 20000};
    bool path = fuzz_below(r, 3) == 0;
    if (path)
        put(&o, "$");
    for (size_t n = fuzz_below(r, path ? 5 : 10) + 1; n > 0; n--)
        put(&o, !path ? PICK(r, pieces) : fuzz_below(r, 4) ? steps[fuzz_below(r, 9)] : PICK(r, steps));
    if (fuzz_below(r, 3) == 0)
        o.n = fuzz_mutate(r, buf, o.n, o.room - 1);
    if (o.n < o.room)
        buf[o.n++] = 0;
    size_t most = fuzz_below(r, 50) == 0 ? 400 : 12;
    if (path && fuzz_below(r, 3) > 0)
        put(&o, values[12 + fuzz_below(r, 3)]);
    else
        for (size_t n = fuzz_below(r, most); n > 0; n--)
            put(&o, path ? PICK(r, values) : PICK(r, texts));
    return fuzz_below(r, 4) == 0 ? fuzz_mutate(r, buf, o.n, o.room) : o.n;
}

static void fuzz_report(void)
{
    printf("%llu tried: %llu patterns, %llu matches, %llu limits hit, %llu paths, %llu values found\n",
           (unsigned long long)tried, (unsigned long long)patterns, (unsigned long long)matched,
           (unsigned long long)limits, (unsigned long long)paths, (unsigned long long)found);
    assert(tried < 1000 ||
           (patterns > tried / 10 && matched > tried / 20 && paths > tried / 50 && found > tried / 500));
}

#include "driver.h"
