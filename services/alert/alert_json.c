/* alert_json.c - a message as JSON: its own fields, and each alert as the record and `redoubt tail` have it. */
#include "alert/alert_json.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *alert_json_kind(enum alert_message_kind kind)
{
    static const char *const names[] = {
        [ALERT_MESSAGE_ONE] = "one", [ALERT_MESSAGE_GROUP] = "group", [ALERT_MESSAGE_DIGEST] = "digest"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

/* What is said of the whole, as an object in one line. */
static char *head(const struct alert_message *m)
{
    char title[ALERT_TITLE_MAX], from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];
    char *text = alert_text_body(m), *line = NULL;
    json_t *o =
        !text ? NULL
              : json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:s, s:s, s:s, s:I, s:I, s:s}", "kind",
                          alert_json_kind(m->kind), "id", m->id, "title", alert_text_headline(m, title), "severity",
                          wire_enum_name(&redoubt__v1__severity__descriptor, m->severity), "resolved", m->resolved,
                          "total", (json_int_t)m->total, "note", m->note ? m->note : "", "from",
                          m->from_unix_ms ? clock_text(m->from_unix_ms, from) : "", "to",
                          m->to_unix_ms ? clock_text(m->to_unix_ms, to) : "", "fromUnixMs",
                          (json_int_t)m->from_unix_ms, "toUnixMs", (json_int_t)m->to_unix_ms, "text", text);
    if (o)
        line = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    free(text);
    return line;
}

char *alert_json(const struct alert_message *m, size_t *ret_len)
{
    char *text = NULL, *line = head(m);
    size_t len = 0;
    FILE *f = line ? open_memstream(&text, &len) : NULL;
    bool ok = f != NULL;
    size_t size = 0, shown = 0;
    if (ok) {
        line[strlen(line) - 1] = 0; /* its brace is closed behind the alerts */
        ok = fprintf(f, "%s,\"alerts\":[", line) > 0;
        size = strlen(line);
    }
    for (size_t i = 0; ok && i < m->n; i++) {
        char *one = wire_json(m->alerts[i]);
        ok = one != NULL;
        size += ok ? strlen(one) : 0;
        bool room = i == 0 || size <= ALERT_JSON_MAX;
        if (ok && room)
            ok = fprintf(f, "%s%s", i ? "," : "", one) > 0;
        free(one);
        if (!room)
            break;
        shown += ok;
    }
    ok = ok && fputs("],\"times\":[", f) >= 0;
    for (size_t i = 0; ok && i < shown; i++)
        ok = fprintf(f, "%s%" PRIu32, i ? "," : "", m->times ? m->times[i] : 1) > 0;
    ok = ok && fputs("]}", f) >= 0;
    if (f && fclose(f))
        ok = false;
    free(line);
    if (!ok) {
        free(text);
        return NULL;
    }
    if (ret_len)
        *ret_len = len;
    return text;
}
