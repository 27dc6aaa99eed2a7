/* jsonpath.c - singular queries of RFC 9535: a path becomes a row of steps, and the steps lead to a value. */
#include "common/jsonpath.h"
#include "common/utf8.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MAX INT64_C(9007199254740991) /* 2^53 - 1, as the RFC has it */

struct step {
    bool is_index;
    bool never;    /* a name that no key of ours can have: it holds a NUL */
    int64_t index; /* below 0: from the end */
    size_t name;   /* where it begins in `names` */
};

struct jsonpath {
    size_t n;
    struct step steps[JSONPATH_STEPS_MAX];
    size_t used;
    char names[JSONPATH_TEXT_MAX * 2]; /* zero-terminated, one behind the other; escapes only ever shrink */
};

struct reader {
    const char *text, *at;
    struct jsonpath *p;
    struct err *e;
};

static int wrong(struct reader *r, const char *what)
{
    return err_set(r->e, "%s, at character %zu of the path", what, (size_t)(r->at - r->text) + 1);
}

static void skip_blank(struct reader *r)
{
    r->at += strspn(r->at, " \t\n\r");
}

static void put(struct reader *r, char c)
{
    r->p->names[r->p->used++] = c;
}

static void put_utf8(struct reader *r, uint32_t c)
{
    if (c < 0x80) {
        put(r, (char)c);
        return;
    }
    if (c >= 0x10000) {
        put(r, (char)(0xf0 | c >> 18));
        put(r, (char)(0x80 | (c >> 12 & 0x3f)));
    } else if (c >= 0x800) {
        put(r, (char)(0xe0 | c >> 12));
    } else {
        put(r, (char)(0xc0 | c >> 6));
    }
    if (c >= 0x800)
        put(r, (char)(0x80 | (c >> 6 & 0x3f)));
    put(r, (char)(0x80 | (c & 0x3f)));
}

static int hex4(struct reader *r, uint32_t *ret)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return wrong(r, "\\u without four hexadecimal digits");
        v = v << 4 | (uint32_t)digit;
    }
    r->at += 4;
    *ret = v;
    return 0;
}

static int read_unicode(struct reader *r, struct step *s)
{
    uint32_t c, low;
    if (hex4(r, &c))
        return -1;
    if (c >= 0xdc00 && c <= 0xdfff)
        return wrong(r, "the second half of a pair without the first");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (r->at[0] != '\\' || r->at[1] != 'u')
            return wrong(r, "the first half of a pair without the second");
        r->at += 2;
        if (hex4(r, &low))
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return wrong(r, "the first half of a pair without the second");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    s->never = s->never || c == 0;
    put_utf8(r, c);
    return 0;
}

static int read_quoted(struct reader *r, struct step *s)
{
    static const char from[] = "bfnrt/\\", to[] = "\b\f\n\r\t/\\";
    char quote = *r->at++;
    while (*r->at != quote) {
        unsigned char c = (unsigned char)*r->at;
        if (c == 0)
            return wrong(r, "a quote is not closed");
        if (c < 0x20)
            return wrong(r, "a control character must be escaped");
        r->at++;
        if (c != '\\') {
            put(r, (char)c);
            continue;
        }
        const char *known = *r->at ? strchr(from, *r->at) : NULL;
        if (*r->at == 'u') {
            r->at++;
            if (read_unicode(r, s))
                return -1;
        } else if (known || *r->at == quote) {
            put(r, known ? to[known - from] : quote);
            r->at++;
        } else {
            return wrong(r, "an unknown escape");
        }
    }
    r->at++;
    return 0;
}

static int read_index(struct reader *r, struct step *s)
{
    bool minus = *r->at == '-';
    const char *digits = r->at + minus;
    size_t n = strspn(digits, "0123456789");
    s->is_index = true;
    if (n == 0)
        return wrong(r, "expected a 'name', a \"name\" or an index");
    if (*digits == '0' && (n > 1 || minus))
        return wrong(r, "an index has no leading zero, and there is no -0");
    int64_t v = n > 16 ? INDEX_MAX + 1 : strtoll(digits, NULL, 10);
    if (v > INDEX_MAX)
        return wrong(r, "the index is too large");
    s->index = minus ? -v : v;
    r->at = digits + n;
    return 0;
}

static int read_bracket(struct reader *r, struct step *s)
{
    r->at++;
    skip_blank(r);
    if ((*r->at == '\'' || *r->at == '"') ? read_quoted(r, s) : read_index(r, s))
        return -1;
    skip_blank(r);
    if (*r->at != ']')
        return wrong(r, "expected ]: a path leads to one value, without lists, slices, filters or *");
    r->at++;
    return 0;
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80 ||
           (!first && c >= '0' && c <= '9');
}

static int read_dot(struct reader *r)
{
    r->at++;
    if (*r->at == '.')
        return wrong(r, "a path leads to one value: .. is not allowed");
    if (!name_char(*r->at, true))
        return wrong(r, "expected a name; one of other characters than letters, digits and _ is written ['name']");
    while (name_char(*r->at, false))
        put(r, *r->at++);
    return 0;
}

static int read_path(struct reader *r)
{
    if (*r->at != '$')
        return wrong(r, "a path begins with $");
    r->at++;
    for (;;) {
        const char *before = r->at;
        skip_blank(r);
        if (!*r->at)
            return *before ? wrong(r, "blanks at the end") : 0;
        if (r->p->n == JSONPATH_STEPS_MAX)
            return wrong(r, "the path has too many steps");
        struct step *s = &r->p->steps[r->p->n];
        s->name = r->p->used;
        if (*r->at == '[' ? read_bracket(r, s) : *r->at == '.' ? read_dot(r) : wrong(r, "expected . or ["))
            return -1;
        put(r, 0);
        r->p->n++;
    }
}

struct jsonpath *jsonpath_compile(const char *text, struct err *e)
{
    size_t len = strlen(text);
    struct jsonpath *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, "out of memory");
        return NULL;
    }
    struct reader r = {.text = text, .at = text, .p = p, .e = e};
    int rc = len > JSONPATH_TEXT_MAX              ? err_set(e, "the path is longer than %d bytes", JSONPATH_TEXT_MAX)
             : utf8_valid_until(text, len) != len ? err_set(e, "the path is not UTF-8")
                                                  : read_path(&r);
    if (rc) {
        free(p);
        return NULL;
    }
    return p;
}

const json_t *jsonpath_find(const struct jsonpath *p, const json_t *document)
{
    const json_t *v = document;
    for (size_t i = 0; v && i < p->n; i++) {
        const struct step *s = &p->steps[i];
        if (s->never)
            return NULL;
        if (!s->is_index) {
            v = json_object_get(v, p->names + s->name); /* NULL for what is no object */
            continue;
        }
        int64_t size = (int64_t)json_array_size(v), at = s->index < 0 ? size + s->index : s->index;
        v = at < 0 || at >= size ? NULL : json_array_get(v, (size_t)at);
    }
    return v;
}

void jsonpath_free(struct jsonpath *p)
{
    free(p);
}

/* ---- values as text ---- */

static char *number_text(double v)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) { /* the shortest that is read as the same number */
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    return strdup(text);
}

char *jsonpath_text(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return strdup(json_string_value(value));
    case JSON_REAL:
        return number_text(json_real_value(value));
    default:
        return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    }
}

bool jsonpath_equals(const json_t *value, const char *text)
{
    char *own = jsonpath_text(value), *end;
    bool same = own && strcmp(own, text) == 0;
    free(own);
    if (same || !json_is_number(value) || !*text || strspn(text, "+-.0123456789eE") != strlen(text))
        return same;
    errno = 0;
    if (json_is_integer(value)) { /* beyond 2^53 a double would call different ones the same */
        long long whole = strtoll(text, &end, 10);
        if (!*end && errno == 0)
            return whole == json_integer_value(value);
    }
    double number = strtod(text, &end);
    double mine = json_number_value(value);
    return !*end && isfinite(number) && !(number < mine) && !(number > mine);
}
