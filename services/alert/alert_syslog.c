/* alert_syslog.c - a message as syslog entries: header, structured data, text; cut where an entry has no more room. */
#include "alert/alert_syslog.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOM       "\xef\xbb\xbf"
#define DATA_MAX  1400 /* of structured data; the text gets what is left, and that is never less than 300 */
#define PARAM_MAX 32   /* of a name (SD-NAME) */

int alert_syslog_severity(int severity, bool resolved)
{
    static const int numbers[] = {
        [REDOUBT__V1__SEVERITY__SEVERITY_UNSPECIFIED] = 5, [REDOUBT__V1__SEVERITY__SEVERITY_INFO] = 6,
        [REDOUBT__V1__SEVERITY__SEVERITY_WARNING] = 4,     [REDOUBT__V1__SEVERITY__SEVERITY_HIGH] = 3,
        [REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL] = 2,
    };
    if (resolved)
        return 5;
    return severity >= 0 && (size_t)severity < sizeof numbers / sizeof *numbers ? numbers[severity] : 5;
}

struct entry {
    char text[ALERT_SYSLOG_MAX + 1];
    size_t len;
};

/* As much as fits below `limit`, whole code points. */
static void add_text(struct entry *e, const char *s, size_t limit)
{
    size_t n = e->len < limit ? alert_text_cut(s, limit, limit - e->len) : 0;
    memcpy(e->text + e->len, s, n);
    e->len += n;
}

/* One line of valid UTF-8; what is not becomes a blank or a question mark. */
static void add_line(struct entry *e, const char *s, size_t limit)
{
    char clean[ALERT_SYSLOG_MAX];
    add_text(e, alert_text_clean(s, clean, sizeof clean), limit);
}

/* A field of the header: printable ASCII; "-" if there is nothing. */
static void add_field(struct entry *e, const char *s, size_t max)
{
    size_t n = 0;
    e->text[e->len++] = ' ';
    for (; *s && n < max; s++, n++)
        e->text[e->len++] = (char)(*s > 0x20 && *s < 0x7f ? *s : '_');
    if (n == 0)
        e->text[e->len++] = '-';
}

/* ` name="value"`, whole or not at all. */
static void add_param(struct entry *e, const char *prefix, const char *name, const char *value)
{
    char key[PARAM_MAX + 1], out[512];
    size_t k = 0, n = 0;
    if (!*value)
        return;
    for (int part = 0; part < 2; part++)
        for (const char *p = part ? name : prefix; *p && k < PARAM_MAX; p++)
            key[k++] = (char)(*p > 0x20 && *p < 0x7f && !strchr("=]\"", *p) ? *p : '_');
    key[k] = 0;
    char clean[256];
    alert_text_clean(value, clean, sizeof clean);
    for (const char *p = clean; *p; p++) {
        if (strchr("\"\\]", *p))
            out[n++] = '\\';
        out[n++] = *p;
    }
    out[n] = 0;
    if (e->len + k + n + 5 > DATA_MAX) /* with what closes the element */
        return;
    e->len += (size_t)sprintf(e->text + e->len, " %s=\"%s\"", key, out);
}

static void add_time(struct entry *e, int64_t unix_ms)
{
    char text[CLOCK_TEXT_MAX];
    add_field(e, unix_ms > 0 ? clock_text(unix_ms, text) : "", CLOCK_TEXT_MAX);
}

static void begin(struct entry *e, const struct alert_syslog *s, int number, int64_t unix_ms, const char *kind)
{
    char pid[24];
    e->len = (size_t)sprintf(e->text, "<%d>1", s->facility * 8 + number);
    add_time(e, unix_ms);
    add_field(e, s->host, 255);
    add_field(e, "redoubt-alert", 48);
    snprintf(pid, sizeof pid, "%ld", s->pid);
    add_field(e, pid, 128);
    add_field(e, kind, 32);
}

static void add_alert(struct entry *e, const PB(Alert) * a)
{
    e->len += (size_t)sprintf(e->text + e->len, " [redoubt@" ALERT_SYSLOG_ENTERPRISE);
    add_param(e, "", "id", a->id);
    add_param(e, "", "severity", alert_text_severity(a));
    add_param(e, "", "resolved", a->resolved ? "true" : "false");
    add_param(e, "", "dedup_key", a->dedup_key);
    add_param(e, "", "source", a->source);
    add_param(e, "", "agent", a->agent);
    add_param(e, "", "target", a->target);
    add_param(e, "", "failure_kind", alert_text_failure(a));
    if (a->manual_intervention_required)
        add_param(e, "", "manual_intervention_required", "true");
    for (size_t i = 0; i < a->n_labels; i++)
        add_param(e, "label.", a->labels[i]->key, a->labels[i]->value);
    e->text[e->len++] = ']';
}

static void add_message(struct entry *e, const char *title, const char *more)
{
    e->len += (size_t)sprintf(e->text + e->len, " " BOM);
    add_line(e, title, ALERT_SYSLOG_MAX);
    if (more && *more) {
        add_text(e, ": ", ALERT_SYSLOG_MAX);
        add_line(e, more, ALERT_SYSLOG_MAX);
    }
}

static bool put(FILE *f, const struct entry *e)
{
    return fprintf(f, "%zu ", e->len) > 0 && fwrite(e->text, 1, e->len, f) == e->len;
}

static bool put_alert(FILE *f, const struct alert_syslog *s, const PB(Alert) * a, const char *note)
{
    struct entry e;
    char title[ALERT_TITLE_MAX];
    begin(&e, s, alert_syslog_severity((int)a->severity, a->resolved), a->raised_unix_ms,
          a->resolved ? "resolved" : "alert");
    add_alert(&e, a);
    add_message(&e, alert_text_title(a, title), a->detail);
    if (note && *note) {
        add_text(&e, " (", ALERT_SYSLOG_MAX);
        add_line(&e, note, ALERT_SYSLOG_MAX - 1);
        add_text(&e, ")", ALERT_SYSLOG_MAX);
    }
    return put(f, &e);
}

/* What a group or a digest is, before the alerts that it holds. */
static bool put_head(FILE *f, const struct alert_syslog *s, const struct alert_message *m)
{
    struct entry e;
    char title[ALERT_TITLE_MAX], total[24];
    const char *kind = m->kind == ALERT_MESSAGE_GROUP ? "group" : "digest";
    begin(&e, s, alert_syslog_severity(m->severity, m->resolved), m->to_unix_ms, kind);
    e.len += (size_t)sprintf(e.text + e.len, " [redoubt@" ALERT_SYSLOG_ENTERPRISE);
    snprintf(total, sizeof total, "%zu", m->total);
    add_param(&e, "", "id", m->id);
    add_param(&e, "", "kind", kind);
    add_param(&e, "", "total", total);
    e.text[e.len++] = ']';
    add_message(&e, alert_text_headline(m, title), m->note);
    return put(f, &e);
}

char *alert_syslog_frames(const struct alert_message *m, const struct alert_syslog *s, size_t *ret_len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, ret_len);
    bool ok = f && (m->kind == ALERT_MESSAGE_ONE || put_head(f, s, m));
    for (size_t i = 0; ok && i < m->n; i++)
        ok = put_alert(f, s, m->alerts[i], m->kind == ALERT_MESSAGE_ONE ? m->note : NULL);
    if (f && fclose(f))
        ok = false;
    if (!ok) {
        free(text);
        return NULL;
    }
    return text;
}
