/* bus_migrate.c - which settings of a stream or consumer that is there are this version's to change, and which are the operator's. */
#include "common/bus_migrate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK          "redoubt format "
#define DUPLICATES_NS (INT64_C(2) * 60 * 1000000000)
#define TEXT_MAX      4096 /* of a description; the server's own limit */

static const char *text_of(const json_t *config, const char *key)
{
    const char *s = json_string_value(json_object_get(config, key));
    return s ? s : "";
}

static json_int_t number_of(const json_t *config, const char *key)
{
    return json_integer_value(json_object_get(config, key));
}

static bool true_of(const json_t *config, const char *key)
{
    return json_is_true(json_object_get(config, key));
}

static bool filled(const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    return json_object_size(v) > 0 || json_array_size(v) > 0;
}

/* ---- the mark ---- */

static int format_of(const json_t *config)
{
    const char *at = strstr(text_of(config, "description"), MARK);
    long n = at ? strtol(at + strlen(MARK), NULL, 10) : 1;
    return n < 1 ? 1 : n > 1000000 ? 1000000 : (int)n;
}

void bus_migrate_mark(json_t *config, int format)
{
    char text[TEXT_MAX];
    const char *was = text_of(config, "description"), *mark = strstr(was, MARK);
    int before = mark ? (int)(mark - was) : 0;
    const char *rest = mark ? mark + strlen(MARK) : was;
    while (mark && *rest >= '0' && *rest <= '9')
        rest++;
    snprintf(text, sizeof text, "%.*s" MARK "%d%s%s", before < TEXT_MAX ? before : 0, was, format,
             !mark && *rest ? "; " : "", rest);
    json_object_set_new(config, "description", json_string_nocheck(text));
}

/* ---- streams ---- */

/* True if `wide` takes every subject that `narrow` takes. */
static bool covers(const char *wide, const char *narrow)
{
    for (;;) {
        size_t w = strcspn(wide, "."), n = strcspn(narrow, ".");
        if (w == 1 && *wide == '>')
            return n > 0;
        bool rest = n == 1 && *narrow == '>';
        bool same = w == n && strncmp(wide, narrow, n) == 0;
        if (rest || !(same || (w == 1 && *wide == '*' && n > 0)))
            return false;
        if (!wide[w] || !narrow[n])
            return wide[w] == narrow[n];
        wide += w + 1;
        narrow += n + 1;
    }
}

/* Adds a subject, unless it is in a wider one. Those that it covers go: the server refuses subjects that overlap. */
static bool add_subject(json_t *subjects, const char *filter)
{
    size_t i;
    json_t *have;
    json_array_foreach(subjects, i, have)
    {
        if (json_is_string(have) && covers(json_string_value(have), filter))
            return false;
    }
    for (i = json_array_size(subjects); i-- > 0;) {
        const char *s = json_string_value(json_array_get(subjects, i));
        if (s && covers(filter, s))
            json_array_remove(subjects, i);
    }
    return json_array_append_new(subjects, json_string(filter)) == 0;
}

int bus_migrate_usable(const json_t *is, int format, struct err *e)
{
    int have = format_of(is);
    if (have > format)
        return err_set(
            e,
            "was written by a newer version of Redoubt (format %d; this one knows %d): it is left alone. Run "
            "that version, or bring back a copy of before the upgrade",
            have, format);
    if (filled(is, "mirror"))
        return err_set(e, "is a mirror of another stream and takes no messages; give the mirror another name");
    if (true_of(is, "sealed"))
        return err_set(e, "is sealed and takes no messages; move it away and restore it under another name");
    return 0;
}

json_t *bus_migrate_stream(const struct bus_stream *row, int replicas, int format, const json_t *is)
{
    json_t *want = json_deep_copy(is);
    if (!want)
        return NULL;
    json_t *subjects = json_object_get(want, "subjects");
    if (!json_is_array(subjects)) {
        json_object_set_new(want, "subjects", json_array());
        subjects = json_object_get(want, "subjects");
    }
    for (const char *const *f = row->subjects; *f; f++)
        add_subject(subjects, *f);
    if (number_of(is, "num_replicas") < replicas)
        json_object_set_new(want, "num_replicas", json_integer(replicas));
    /* The present is read by direct gets; and what may not be lost is refused rather than dropped. */
    if (!true_of(is, "allow_direct"))
        json_object_set_new(want, "allow_direct", json_true());
    if (true_of(is, "no_ack"))
        json_object_set_new(want, "no_ack", json_false());
    if (row->discard_new && strcmp(text_of(is, "discard"), "new") != 0)
        json_object_set_new(want, "discard", json_string("new"));
    /* Fewer messages of a subject than the row keeps would be a loss; more are an operator's history. */
    json_int_t per = number_of(is, "max_msgs_per_subject");
    if (per > 0 && (row->max_per_subject == 0 || per < row->max_per_subject))
        json_object_set_new(want, "max_msgs_per_subject",
                            json_integer(row->max_per_subject ? row->max_per_subject : -1));
    /* A repeat comes up to two minutes later; the server wants the window within the age. */
    json_int_t age = number_of(is, "max_age"), window = age > 0 && age < DUPLICATES_NS ? age : DUPLICATES_NS;
    if (number_of(is, "duplicate_window") < window)
        json_object_set_new(want, "duplicate_window", json_integer(window));
    if (format_of(is) < format)
        bus_migrate_mark(want, format);
    /* max_age, max_bytes, max_msgs, placement, compression, republish and whatever else there is: the operator's. */
    if (!json_equal(want, is))
        return want;
    json_decref(want);
    return NULL;
}

const char *bus_migrate_odd(const struct bus_stream *row, const json_t *is)
{
    if (strcmp(text_of(is, "storage"), "file") != 0)
        return "is not kept on disk: what it holds is lost with the server";
    bool queue = strcmp(text_of(is, "retention"), "workqueue") == 0;
    if (strcmp(text_of(is, "retention"), "interest") == 0)
        return "keeps only what a consumer waits for (retention `interest`): the rest is lost";
    if (queue != row->work_queue)
        return queue ? "has the retention `workqueue`: each message is lost for everybody once one reader has it"
                     : "has not the retention `workqueue`: what is done stays until it is taken out";
    return NULL;
}

/* ---- consumers ---- */

json_t *bus_migrate_new_consumer(const struct bus_migrate_wish *w, const char *durable)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I}", "durable_name", durable, "deliver_subject",
                     w->deliver, "deliver_group", w->group, "filter_subject", w->filter, "deliver_policy", "all",
                     "ack_policy", "explicit", "replay_policy", "instant", "max_deliver", -1, "max_ack_pending",
                     w->max_ack_pending, "ack_wait", (json_int_t)w->ack_wait_ms * 1000000);
}

/* Where it stands in the stream and how it began (deliver_policy, opt_start_seq) is kept: only what may change is changed. */
json_t *bus_migrate_consumer(const struct bus_migrate_wish *w, const json_t *is)
{
    json_t *want = json_deep_copy(is);
    if (!want)
        return NULL;
    if (strcmp(text_of(is, "deliver_subject"), w->deliver) != 0)
        json_object_set_new(want, "deliver_subject", json_string(w->deliver));
    if (strcmp(text_of(is, "deliver_group"), w->group) != 0)
        json_object_set_new(want, "deliver_group", json_string(w->group));
    if (strcmp(text_of(is, "filter_subject"), w->filter) != 0) {
        json_object_del(want, "filter_subjects"); /* several, of server 2.10: one or the other */
        json_object_set_new(want, "filter_subject", json_string(w->filter));
    }
    /* Only upwards, so that two versions side by side do not undo each other's. */
    if (number_of(is, "ack_wait") < (json_int_t)w->ack_wait_ms * 1000000)
        json_object_set_new(want, "ack_wait", json_integer((json_int_t)w->ack_wait_ms * 1000000));
    json_int_t pending = number_of(is, "max_ack_pending");
    if (pending >= 0 && pending < w->max_ack_pending)
        json_object_set_new(want, "max_ack_pending", json_integer(w->max_ack_pending));
    /* What would lose messages: given up by the server, without their contents, forgotten with the whole consumer. */
    if (number_of(is, "max_deliver") > 0)
        json_object_set_new(want, "max_deliver", json_integer(-1));
    if (true_of(is, "headers_only"))
        json_object_set_new(want, "headers_only", json_false());
    if (number_of(is, "inactive_threshold") > 0)
        json_object_del(want, "inactive_threshold");
    if (filled(is, "backoff"))
        json_object_del(want, "backoff"); /* it stands above ack_wait, and wants as many deliveries at least */
    if (!json_equal(want, is))
        return want;
    json_decref(want);
    return NULL;
}
