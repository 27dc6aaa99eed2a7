/* conf_value.c - single values: substitution, units, bounds, and their words for people. */
#include "common/conf_impl.h"
#include "common/subjects.h"
#include "common/utf8.h"
#include <assert.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- substitution ---- */

#define EXPAND_DEPTH_MAX 8

struct text {
    char *s;
    size_t n;
};

static bool text_add(struct text *t, const char *s, size_t n, struct err *e)
{
    if (t->n + n > CONF_VALUE_MAX) {
        err_set(e, "the value is longer than %d bytes", CONF_VALUE_MAX);
        return false;
    }
    char *bigger = realloc(t->s, t->n + n + 1);
    if (!bigger) {
        err_set(e, "out of memory");
        return false;
    }
    if (n)
        memcpy(bigger + t->n, s, n);
    t->s = bigger;
    t->n += n;
    t->s[t->n] = 0;
    return true;
}

static bool add_file(struct text *t, const char *path, struct err *e)
{
    struct stat st;
    char *buf = NULL;
    bool ok = false;
    /* O_NONBLOCK: opening a pipe without a writer must not hang; what is no plain file is refused below. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_set(e, "cannot read %s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, "cannot read %s: it is not a plain file", path);
        goto out;
    }
    buf = malloc(CONF_VALUE_MAX + 1);
    size_t n = 0;
    while (buf && n <= CONF_VALUE_MAX) {
        ssize_t got = read(fd, buf + n, CONF_VALUE_MAX + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_set(e, "cannot read %s: %s", path, strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (buf && n > 0 && memchr(buf, 0, n)) {
        err_set(e, "%s holds NUL: it must be text", path);
        goto out;
    }
    if (buf && n > 0 && n <= CONF_VALUE_MAX && buf[n - 1] == '\n')
        n--;
    ok = buf && text_add(t, buf, n, e);
out:
    free(buf);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Length of what stands between `${` (before s) and its `}`, or SIZE_MAX. */
static size_t braces(const char *s, size_t n)
{
    unsigned open = 1;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '$' && i + 1 < n && s[i + 1] == '{') {
            open++;
            i++;
        } else if (s[i] == '}' && --open == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static bool expand(struct text *t, const char *s, size_t n, unsigned depth, struct err *e);

/* One `${...}`: s is what stands between the braces. */
static bool expand_one(struct text *t, const char *s, size_t n, unsigned depth, struct err *e)
{
    static const char forms[] = "${NAME}, ${NAME:-default} or ${file:/path}";
    struct text inner = {NULL, 0};
    bool ok = false;
    if (n >= 5 && memcmp(s, "file:", 5) == 0) {
        if (!expand(&inner, s + 5, n - 5, depth + 1, e))
            goto out;
        if (inner.s[0] != '/') {
            err_set(e, "`${file:%s}`: the path must be absolute", inner.s);
            goto out;
        }
        ok = add_file(t, inner.s, e);
        goto out;
    }
    size_t name_len = 0;
    while (name_len < n && (isalnum((unsigned char)s[name_len]) || s[name_len] == '_'))
        name_len++;
    bool has_default = n - name_len >= 2 && memcmp(s + name_len, ":-", 2) == 0;
    if (name_len == 0 || isdigit((unsigned char)s[0]) || (name_len < n && !has_default)) {
        err_set(e, "`${%.*s}` is none of %s", (int)(n > 60 ? 60 : n), s, forms);
        goto out;
    }
    if (!text_add(&inner, s, name_len, e))
        goto out;
    const char *value = getenv(inner.s);
    if (value && (*value || !has_default))
        ok = text_add(t, value, strlen(value), e);
    else if (has_default)
        ok = expand(t, s + name_len + 2, n - name_len - 2, depth + 1, e);
    else
        err_set(e, "environment variable %s is not set: set it, or give a default as in ${%s:-default}", inner.s,
                inner.s);
out:
    free(inner.s);
    return ok;
}

static bool expand(struct text *t, const char *s, size_t n, unsigned depth, struct err *e)
{
    if (depth > EXPAND_DEPTH_MAX) {
        err_set(e, "`${...}` is nested more than %d deep", EXPAND_DEPTH_MAX);
        return false;
    }
    if (!text_add(t, "", 0, e))
        return false;
    size_t i = 0;
    while (i < n) {
        if (n - i >= 3 && memcmp(s + i, "$${", 3) == 0) {
            if (!text_add(t, "${", 2, e))
                return false;
            i += 3;
        } else if (n - i >= 2 && memcmp(s + i, "${", 2) == 0) {
            size_t len = braces(s + i + 2, n - i - 2);
            if (len == SIZE_MAX) {
                err_set(e, "`${` without `}`; write `$${` for a plain `${`");
                return false;
            }
            if (!expand_one(t, s + i + 2, len, depth, e))
                return false;
            i += len + 3;
        } else {
            const char *next = memchr(s + i + 1, '$', n - i - 1);
            size_t len = next ? (size_t)(next - (s + i)) : n - i;
            if (!text_add(t, s + i, len, e))
                return false;
            i += len;
        }
    }
    return true;
}

char *conf_expand(const char *raw, bool *ret_changed, struct err *e)
{
    struct text t = {NULL, 0};
    size_t n = strlen(raw);
    if (!expand(&t, raw, n, 0, e)) {
        free(t.s);
        return NULL;
    }
    *ret_changed = strcmp(t.s, raw) != 0;
    return t.s;
}

/* ---- numbers with units ---- */

struct unit {
    const char *name;
    int64_t factor;
};
static const struct unit duration_units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                             {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"kB", 1000},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
    {"TiB", INT64_C(1) << 40},
    {NULL, 0},
};
static const struct unit percent_units[] = {{"", 1}, {"%", 1}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* Reads digits into *ret; the first byte after them, or NULL if there are none or they overflow. */
static const char *read_digits(const char *s, int64_t *ret)
{
    int64_t v = 0;
    const char *start = s;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
            return NULL;
    *ret = v;
    return s == start ? NULL : s;
}

/* `30s`, and with `compound` also `1h30m`. */
static bool read_units(const char *s, const struct unit *units, bool compound, int64_t *ret)
{
    int64_t total = 0;
    do {
        int64_t v;
        s = read_digits(s, &v);
        if (!s)
            return false;
        size_t n = 0;
        while (isalpha((unsigned char)s[n]) || s[n] == '%')
            n++;
        const struct unit *u = units;
        while (u->name && (strlen(u->name) != n || memcmp(u->name, s, n) != 0))
            u++;
        if (!u->name || __builtin_mul_overflow(v, u->factor, &v) || __builtin_add_overflow(total, v, &total))
            return false;
        s += n;
    } while (compound && *s);
    *ret = total;
    return *s == 0;
}

static bool read_number(enum conf_type type, const char *s, int64_t *ret)
{
    if (type == CONF_DURATION) {
        if (strcmp(s, "0") == 0) {
            *ret = 0;
            return true;
        }
        return read_units(s, duration_units, true, ret);
    }
    if (type == CONF_SIZE)
        return read_units(s, size_units, false, ret);
    if (type == CONF_PERCENT)
        return read_units(s, percent_units, false, ret) && *ret <= 100;
    bool negative = *s == '-';
    if (!read_units(s + negative, no_units, false, ret))
        return false;
    if (negative)
        *ret = -*ret;
    return true;
}

static const char *unit_text(const struct unit *units, int64_t v, char *buf, size_t room)
{
    const struct unit *best = units;
    for (const struct unit *u = units; v != 0 && u->name; u++)
        if (v % u->factor == 0 && u->factor > best->factor)
            best = u;
    snprintf(buf, room, "%" PRId64 "%s", v / best->factor, best->name);
    return buf;
}

const char *conf_duration_text(int64_t ms, char *buf, size_t room)
{
    return ms == 0 ? (snprintf(buf, room, "0s"), buf) : unit_text(duration_units, ms, buf, room);
}

const char *conf_size_text(int64_t bytes, char *buf, size_t room)
{
    static const struct unit binary[] = {{"", 1},
                                         {"KiB", INT64_C(1) << 10},
                                         {"MiB", INT64_C(1) << 20},
                                         {"GiB", INT64_C(1) << 30},
                                         {"TiB", INT64_C(1) << 40},
                                         {NULL, 0}};
    return unit_text(binary, bytes, buf, room);
}

/* ---- strings ---- */

bool conf_url_ok(const char *url, size_t len, const char *const *schemes)
{
    if (len == 0 || len > CONF_STRING_MAX || memchr(url, 0, len))
        return false;
    char copy[CONF_STRING_MAX + 1];
    memcpy(copy, url, len);
    copy[len] = 0;
    for (const char *c = copy; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    bool ok = !schemes;
    char *scheme = NULL, *host = NULL;
    CURLU *u = curl_url();
    if (u && !curl_url_set(u, CURLUPART_URL, copy, CURLU_NON_SUPPORT_SCHEME) &&
        !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0) && *host) {
        for (size_t i = 0; schemes && schemes[i] && !ok; i++)
            ok = strcasecmp(schemes[i], scheme) == 0;
    } else {
        ok = false;
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(u);
    return ok;
}

bool conf_is_string(enum conf_type type)
{
    return type == CONF_STRING || type == CONF_SECRET || type == CONF_TOKEN || type == CONF_TARGET ||
           type == CONF_URL;
}

static bool read_string(const struct conf_field *f, enum conf_type type, const char *text, char **ret, struct err *e)
{
    size_t len = strlen(text);
    /* min and max of a list of strings say how many; its strings go by the defaults. */
    bool own = f->type != CONF_STRINGS;
    size_t max = own && f->max ? (size_t)f->max : CONF_STRING_MAX;
    size_t min = own ? (size_t)f->min : 1;
    bool empty_ok = own && f->def && !*f->def;
    if (!(len == 0 && empty_ok)) {
        if (len < min || len > max)
            return false;
        if (type == CONF_TOKEN && !name_token_ok(text))
            return false;
        if (type == CONF_TARGET && !name_target_ok(text))
            return false;
        if (type == CONF_URL && !conf_url_ok(text, len, f->choices))
            return false;
    }
    size_t good = utf8_valid_until(text, len);
    if (good != len) {
        err_set(e, "byte %zu is not UTF-8", good);
        return false;
    }
    /* No setting needs them, and in a header or a line of SMTP they would start a new one. */
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
            err_set(e, "byte %zu is a control character", i);
            return false;
        }
    }
    *ret = strdup(text);
    return *ret != NULL;
}

static bool read_bool(const char *s, bool *ret)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(s, words[i]) == 0) {
            *ret = i % 2;
            return true;
        }
    }
    return false;
}

bool conf_scalar(const struct conf_field *f, enum conf_type type, const char *text, void *at, struct err *e)
{
    e->text[0] = 0;
    if (conf_is_string(type))
        return read_string(f, type, text, at, e);
    if (type == CONF_BOOL)
        return read_bool(text, at);
    if (type == CONF_ENUM) {
        for (int i = 0; f->choices[i]; i++) {
            if (strcmp(text, f->choices[i]) == 0) {
                *(int *)at = i;
                return true;
            }
        }
        return false;
    }
    int64_t v;
    if (!read_number(type, text, &v)) {
        if (type == CONF_DURATION && *text && strspn(text, "0123456789") == strlen(text))
            err_set(e, "it has no unit");
        return false;
    }
    if ((f->min || f->max) && (v < f->min || v > f->max))
        return false;
    *(int64_t *)at = v;
    return true;
}

/* ---- words ---- */

static size_t put_choices(const char *const *choices, char *buf, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; choices && choices[i] && n < room; i++)
        n += (size_t)snprintf(buf + n, room - n, "%s%s", i ? ", " : "", choices[i]);
    return n;
}

const char *conf_allowed(const struct conf_field *f, enum conf_type type, char *buf, size_t room)
{
    static const char *const words[] = {
        [CONF_STRING] = "text",
        [CONF_SECRET] = "text",
        [CONF_TOKEN] = "a name of a-z 0-9 _ -, 1 to 64 bytes",
        [CONF_TARGET] = "names of a-z 0-9 _ - joined by dots, 1 to 128 bytes",
        [CONF_URL] = "a URL",
        [CONF_BOOL] = "true or false",
        [CONF_INT] = "a whole number",
        [CONF_DURATION] = "a duration such as 250ms, 30s, 5m, 4h or 7d",
        [CONF_SIZE] = "a size such as 4096, 64KiB, 10MB or 1GiB",
        [CONF_PERCENT] = "a percentage such as 50%",
        [CONF_ENUM] = "one of",
        [CONF_OBJECT] = "keys with values",
        [CONF_LIST] = "a list of keys with values",
        [CONF_STRINGS] = "a list such as [a, b]",
    };
    bool own = type == f->type;
    char lo[32], hi[32];
    size_t n = (size_t)snprintf(buf, room, "%s", words[type]);
    if (n >= room)
        return buf;
    if (type == CONF_ENUM) {
        n += (size_t)snprintf(buf + n, room - n, " ");
        put_choices(f->choices, buf + n, room - n);
    } else if (type == CONF_URL && f->choices) {
        n += (size_t)snprintf(buf + n, room - n, " with one of the schemes ");
        put_choices(f->choices, buf + n, room - n);
    } else if ((type == CONF_STRING || type == CONF_SECRET) && own) {
        snprintf(buf + n, room - n, ", %" PRId64 " to %" PRId64 " bytes", f->def && !*f->def ? 0 : f->min,
                 f->max ? f->max : CONF_STRING_MAX);
    } else if ((type == CONF_LIST || type == CONF_STRINGS) && own) {
        snprintf(buf + n, room - n, ", %" PRId64 " to %" PRId64 " items", f->def && !*f->def ? 0 : f->min,
                 f->max ? f->max : CONF_ITEMS_MAX);
    } else if (type == CONF_DURATION && (f->min || f->max)) {
        snprintf(buf + n, room - n, ", %s to %s", conf_duration_text(f->min, lo, sizeof lo),
                 conf_duration_text(f->max, hi, sizeof hi));
    } else if (type == CONF_SIZE && (f->min || f->max)) {
        snprintf(buf + n, room - n, ", %s to %s", conf_size_text(f->min, lo, sizeof lo),
                 conf_size_text(f->max, hi, sizeof hi));
    } else if (type == CONF_PERCENT && (f->min || f->max)) {
        snprintf(buf + n, room - n, ", %" PRId64 "%% to %" PRId64 "%%", f->min, f->max);
    } else if (type == CONF_INT && (f->min || f->max)) {
        snprintf(buf + n, room - n, ", %" PRId64 " to %" PRId64, f->min, f->max);
    }
    return buf;
}

const char *conf_safe_text(const char *text, char *buf, size_t room)
{
    assert(room > 8);
    size_t n = 0;
    while (*text && n < room - 8) {
        if (strncmp(text, "://", 3) == 0) {
            memcpy(buf + n, "://", 3);
            n += 3;
            text += 3;
            size_t user = strcspn(text, "/,?# ");
            const char *at = memrchr(text, '@', user);
            if (at && n < room - 8) {
                memcpy(buf + n, "***", 3);
                n += 3;
                text = at;
            }
            continue;
        }
        buf[n++] = (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text;
        text++;
    }
    memcpy(buf + n, *text ? "..." : "", *text ? 4 : 1);
    return buf;
}
