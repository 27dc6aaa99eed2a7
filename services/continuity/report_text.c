/* report_text.c - a text that grows, escaping, times for people. */
#include "continuity/report_text.h"
#include "common/utf8.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool make_room(struct report_text *t, size_t n)
{
    if (t->failed)
        return false;
    if (t->n + n + 1 <= t->room)
        return true;
    size_t room = t->room ? t->room : 4096;
    while (room < t->n + n + 1)
        room *= 2;
    char *more = realloc(t->s, room);
    if (!more) {
        t->failed = true;
        return false;
    }
    t->s = more;
    t->room = room;
    return true;
}

void report_add_n(struct report_text *t, const char *s, size_t n)
{
    if (!make_room(t, n))
        return;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void report_add(struct report_text *t, const char *s)
{
    report_add_n(t, s, strlen(s));
}

void report_addf(struct report_text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && make_room(t, (size_t)n)) {
        vsnprintf(t->s + t->n, (size_t)n + 1, fmt, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

/* ---- what others have written ---- */

/* Marks that turn or join text without being seen: they make a line say what it does not. */
static bool unseen(uint32_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
           c == 0xfeff || c == 0x061c || c == 0x180e || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe007f) || c == 0xad;
}

typedef void (*put_fn)(struct report_text *t, const char *s, size_t n, char before, char after);

static void put_clean(struct report_text *t, const char *s, size_t max, bool lines, put_fn put)
{
    size_t len = strlen(s), at = 0;
    char before = ' ';
    while (at < len) {
        uint32_t c = 0;
        size_t n = utf8_next(s + at, len - at, &c);
        if (at + (n ? n : 1) > max) {
            report_add(t, "…");
            return;
        }
        if (n == 0) {
            report_add(t, "\xef\xbf\xbd");
            n = 1;
            before = 'x';
        } else if (lines && c == '\n') {
            report_add(t, "\n");
            before = ' ';
        } else if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029) {
            if (c != '\r')
                report_add(t, " ");
            before = ' ';
        } else if (!unseen(c)) {
            put(t, s + at, n, before, s[at + n]);
            before = n == 1 ? s[at] : 'x';
        }
        at += n;
    }
}

static void put_html(struct report_text *t, const char *s, size_t n, char before, char after)
{
    (void)before;
    (void)after;
    switch (*s) {
    case '&':
        report_add(t, "&amp;");
        break;
    case '<':
        report_add(t, "&lt;");
        break;
    case '>':
        report_add(t, "&gt;");
        break;
    case '"':
        report_add(t, "&quot;");
        break;
    case '\'':
        report_add(t, "&#39;");
        break;
    default:
        report_add_n(t, s, n);
    }
}

static bool word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80);
}

/* As little as keeps it from being taken for form, as people read the raw text, too. */
static void put_md(struct report_text *t, const char *s, size_t n, char before, char after)
{
    bool begins = before == ' ';
    if (*s == '&')
        report_add(t, "&amp;");
    else if (*s == '<')
        report_add(t, "&lt;");
    else if (*s == '>')
        report_add(t, "&gt;");
    else if (*s == ':' && after == '/')
        report_add(t, "&#58;"); /* no address becomes a link */
    else if (*s == '_' && word(before) && word(after))
        report_add(t, "_");
    else if (strchr("\\`*_[]|~!", *s) || (begins && strchr("#+-=", *s)) ||
             ((*s == '.' || *s == ')') && before >= '0' && before <= '9' && after == ' ')) {
        report_add(t, "\\");
        report_add_n(t, s, 1);
    } else
        report_add_n(t, s, n);
}

static void put_csv(struct report_text *t, const char *s, size_t n, char before, char after)
{
    (void)before;
    (void)after;
    report_add_n(t, *s == '"' ? "\"\"" : s, *s == '"' ? 2 : n);
}

void report_html(struct report_text *t, const char *s, size_t max)
{
    put_clean(t, s ? s : "", max, false, put_html);
}

void report_html_lines(struct report_text *t, const char *s, size_t max)
{
    put_clean(t, s ? s : "", max, true, put_html);
}

void report_md(struct report_text *t, const char *s, size_t max)
{
    put_clean(t, s ? s : "", max, false, put_md);
}

void report_csv(struct report_text *t, const char *s, bool first)
{
    report_add(t, first ? "\"" : ",\"");
    if (*s && strchr("=+-@\t\r", *s))
        report_add(t, "'");
    put_clean(t, s, 1024, false, put_csv);
    report_add(t, "\"");
}

/* ---- times and numbers ---- */

const char *report_took(int64_t ms, char buf[static REPORT_TIME_MAX])
{
    const char *sign = ms < 0 ? "−" : "";
    int64_t v = ms < 0 ? -ms : ms, s = v / 1000, min = s / 60, h = min / 60;
    if (v < 1000)
        snprintf(buf, REPORT_TIME_MAX, "%s%" PRId64 " ms", sign, v);
    else if (s < 60)
        snprintf(buf, REPORT_TIME_MAX, "%s%" PRId64 ".%" PRId64 " s", sign, s, v % 1000 / 100);
    else if (min < 60)
        snprintf(buf, REPORT_TIME_MAX, s % 60 ? "%s%" PRId64 " min %02" PRId64 " s" : "%s%" PRId64 " min", sign, min,
                 s % 60);
    else if (h < 48)
        snprintf(buf, REPORT_TIME_MAX, min % 60 ? "%s%" PRId64 " h %02" PRId64 " min" : "%s%" PRId64 " h", sign, h,
                 min % 60);
    else
        snprintf(buf, REPORT_TIME_MAX, h % 24 ? "%s%" PRId64 " d %" PRId64 " h" : "%s%" PRId64 " d", sign, h / 24,
                 h % 24);
    return buf;
}

static const char *form(int64_t unix_ms, bool dated, char *buf)
{
    struct tm tm;
    time_t s = (time_t)(unix_ms / 1000);
    if (unix_ms <= 0 || !gmtime_r(&s, &tm) ||
        !(dated ? strftime(buf, REPORT_TIME_MAX, "%Y-%m-%d %H:%M:%S", &tm)
                : strftime(buf, REPORT_TIME_MAX, "%H:%M:%S", &tm)))
        snprintf(buf, REPORT_TIME_MAX, "—");
    return buf;
}

const char *report_when(int64_t unix_ms, char buf[static REPORT_TIME_MAX])
{
    return form(unix_ms, true, buf);
}

const char *report_clock(int64_t unix_ms, char buf[static REPORT_TIME_MAX])
{
    return form(unix_ms, false, buf);
}

const char *report_number(uint64_t n, char buf[static REPORT_TIME_MAX])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t at = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = 0;
    return buf;
}
