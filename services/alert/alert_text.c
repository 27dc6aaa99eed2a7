/* alert_text.c - an alert in words for people. */
#include "alert/alert_text.h"
#include "common/clock.h"
#include "common/utf8.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *alert_text_severity(const PB(Alert) * a)
{
    return wire_enum_name(&redoubt__v1__severity__descriptor, (int)a->severity);
}

const char *alert_text_failure(const PB(Alert) * a)
{
    return a->failure_kind ? wire_enum_name(&redoubt__v1__failure_kind__descriptor, (int)a->failure_kind) : "";
}

static bool control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

static const char *level(int severity, bool resolved)
{
    return resolved ? "RESOLVED" : wire_enum_name(&redoubt__v1__severity__descriptor, severity);
}

static const char *title(const char *what, const char *text, char buf[static ALERT_TITLE_MAX])
{
    snprintf(buf, ALERT_TITLE_MAX, "[%s] %s", what, text);
    for (char *p = buf; *p; p++)
        if (control((unsigned char)*p))
            *p = ' ';
    buf[alert_text_cut(buf, ALERT_TITLE_MAX, ALERT_TITLE_MAX)] = 0; /* snprintf may have cut a code point */
    return buf;
}

const char *alert_text_title(const PB(Alert) * a, char buf[static ALERT_TITLE_MAX])
{
    return title(level((int)a->severity, a->resolved), a->summary, buf);
}

static void line(FILE *f, const char *name, const char *value)
{
    if (*value)
        fprintf(f, "%-12s %s\n", name, value);
}

static void time_line(FILE *f, const char *name, int64_t unix_ms)
{
    char text[CLOCK_TEXT_MAX];
    if (unix_ms > 0)
        line(f, name, clock_text(unix_ms, text));
}

const char *alert_text_headline(const struct alert_message *m, char buf[static ALERT_TITLE_MAX])
{
    if (m->kind == ALERT_MESSAGE_ONE || !m->title)
        return alert_text_title(m->alerts[0], buf);
    return title(level(m->severity, m->resolved), m->title, buf);
}

/* ---- one alert, with all that is known ---- */

static void one(FILE *f, const struct alert_message *m)
{
    const PB(Alert) *a = m->alerts[0];
    const char *note = m->note;
    char head[ALERT_TITLE_MAX];
    fprintf(f, "%s\n\n", alert_text_title(a, head));
    if (a->resolved)
        fputs("This problem is over.\n\n", f);
    if (a->manual_intervention_required)
        fputs("MANUAL INTERVENTION REQUIRED: automation stands still until a person decides.\n\n", f);
    if (*a->detail)
        fprintf(f, "%s\n\n", a->detail);
    if (a->n_actions_taken) {
        fputs("Actions taken:\n", f);
        for (size_t i = 0; i < a->n_actions_taken; i++)
            fprintf(f, "  - %s\n", a->actions_taken[i]);
        fputc('\n', f);
    }
    line(f, "severity", alert_text_severity(a));
    line(f, "failure", alert_text_failure(a));
    line(f, "agent", a->agent);
    line(f, "target", a->target);
    line(f, "source", a->source);
    for (size_t i = 0; i < a->n_labels; i++)
        line(f, a->labels[i]->key, a->labels[i]->value);
    time_line(f, "evidence", a->evidence_unix_ms);
    time_line(f, "raised", a->raised_unix_ms);
    line(f, "problem", a->dedup_key);
    line(f, "alert", a->id);
    if (note && *note)
        line(f, "note", note);
}

/* ---- many, with what matters of each ---- */

static void fact(FILE *f, size_t *n, const char *name, const char *value)
{
    if (*value)
        fprintf(f, "%s%s %s", (*n)++ ? ", " : "    ", name, value);
}

static void entry(FILE *f, const struct alert_message *m, size_t i)
{
    const PB(Alert) *a = m->alerts[i];
    char head[ALERT_TITLE_MAX], time[CLOCK_TEXT_MAX];
    size_t n = 0;
    fputs(alert_text_title(a, head), f);
    if (m->times && m->times[i] > 1)
        fprintf(f, " (%" PRIu32 " alerts)", m->times[i]);
    fputc('\n', f);
    if (a->manual_intervention_required && !a->resolved)
        fputs("    MANUAL INTERVENTION REQUIRED\n", f);
    fact(f, &n, "raised", a->raised_unix_ms > 0 ? clock_text(a->raised_unix_ms, time) : "");
    fact(f, &n, "agent", a->agent);
    fact(f, &n, "target", a->target);
    fact(f, &n, "failure", alert_text_failure(a));
    fact(f, &n, "problem", a->dedup_key);
    if (n > 0)
        fputc('\n', f);
}

static void many(FILE *f, const struct alert_message *m)
{
    char head[ALERT_TITLE_MAX], from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];
    fprintf(f, "%s\n\n", alert_text_headline(m, head));
    if (m->note && *m->note)
        fprintf(f, "%s.\n\n", m->note);
    for (size_t i = 0; i < m->n; i++)
        entry(f, m, i);
    fputc('\n', f);
    if (m->from_unix_ms > 0)
        fprintf(f, "%-12s %s to %s\n", "raised", clock_text(m->from_unix_ms, from), clock_text(m->to_unix_ms, to));
    line(f, "message", m->id);
}

char *alert_text_body(const struct alert_message *m)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    if (m->kind == ALERT_MESSAGE_ONE)
        one(f, m);
    else
        many(f, m);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

size_t alert_text_cut(const char *s, size_t max_chars, size_t max_bytes)
{
    size_t len = strlen(s), at = 0;
    for (size_t chars = 0; at < len && chars < max_chars; chars++) {
        uint32_t code;
        size_t n = utf8_next(s + at, len - at, &code);
        if (n == 0 || at + n > max_bytes)
            break;
        at += n;
    }
    return at;
}

const char *alert_text_clean(const char *in, char *out, size_t size)
{
    size_t len = strlen(in), at = 0, n = 0;
    while (at < len) {
        uint32_t code;
        size_t step = utf8_next(in + at, len - at, &code);
        bool good = step > 0 && !control((unsigned char)in[at]);
        size_t width = good ? step : 1;
        if (n + width >= size)
            break;
        if (good)
            memcpy(out + n, in + at, width);
        else
            out[n] = step > 0 ? ' ' : '?';
        n += width;
        at += step > 0 ? step : 1;
    }
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = 0;
    return out;
}
