/* config_journal.c - what a change of the configuration is about to do, on disk before it does it. */
#include "continuity/config_file.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL "change.json"
#define TEXT    "change.yaml"

static void nothing(void *ctx)
{
    (void)ctx;
}

static void path_of(const char *dir, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "%s/%s", dir, name);
}

int config_journal_write(const char *dir, const struct config_journal *j, const char *text, size_t len, struct err *e)
{
    char path[1024];
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "was", j->was, "now", j->now, "verb", j->verb, "by",
                          j->by, "reason", j->reason, "in_place", j->in_place);
    char *line = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    int bad = line ? 0 : err_set(e, "the journal of changes cannot be made: who or why is no UTF-8");
    /* The text first: a journal that names a text which is not there would be of no use. */
    path_of(dir, TEXT, path, sizeof path);
    bad = bad || config_replace(path, text, len, nothing, NULL, e);
    path_of(dir, JOURNAL, path, sizeof path);
    bad = bad || config_replace(path, line, strlen(line), nothing, NULL, e);
    free(line);
    json_decref(o);
    return bad ? -1 : 0;
}

static void copy(const json_t *o, const char *key, char *ret, size_t size)
{
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(ret, size, "%s", s ? s : "");
}

int config_journal_read(const char *dir, struct config_journal *ret, struct config_text *ret_text, struct err *e)
{
    char path[1024];
    struct config_text raw;
    *ret = (struct config_journal){.was = ""};
    *ret_text = (struct config_text){0};
    path_of(dir, JOURNAL, path, sizeof path);
    if (access(path, F_OK) && errno == ENOENT)
        return 0;
    if (config_text_read(path, &raw, e))
        return -1;
    json_t *o = json_loadb(raw.text, raw.len, 0, NULL);
    config_text_free(&raw);
    copy(o, "was", ret->was, sizeof ret->was);
    copy(o, "now", ret->now, sizeof ret->now);
    copy(o, "verb", ret->verb, sizeof ret->verb);
    copy(o, "by", ret->by, sizeof ret->by);
    copy(o, "reason", ret->reason, sizeof ret->reason);
    ret->in_place = json_is_true(json_object_get(o, "in_place"));
    json_decref(o);
    path_of(dir, TEXT, path, sizeof path);
    if (strlen(ret->now) != SHA256_TEXT - 1)
        return err_set(e, "%s/" JOURNAL " is damaged: it is set aside", dir);
    if (config_text_read(path, ret_text, e))
        return -1;
    if (strcmp(ret_text->sha256, ret->now) != 0) {
        config_text_free(ret_text);
        return err_set(e, "%s is not what " JOURNAL " names: it is set aside", path);
    }
    return 1;
}

void config_journal_remove(const char *dir)
{
    char path[1024];
    path_of(dir, JOURNAL, path, sizeof path);
    (void)unlink(path);
    path_of(dir, TEXT, path, sizeof path);
    (void)unlink(path);
}
