/* settings_audit.c - the rows of `audit`: the trail, its copies, and its room on the disk. */
#include "common/settings_impl.h"
#include <string.h>

#undef RELOAD
#define RELOAD false
#define STRUCT struct set_audit
static const struct conf_field audit_fields[] = {
    ROW("segment", SIZE, segment_bytes, "64MiB", 4096, 16 * GIB,
        "A file of the trail is closed at this size and the next is begun."),
    ROW("checkpoint", DURATION, checkpoint_ms, "10s", 100, HOUR,
        "How often the trail's end is signed, if something came."),
    ROW("key_file", STRING, key_file, "", 0, 0,
        "The Ed25519 key that signs (64 bytes, hexadecimal, mode 0600); empty = audit.key in the trail's directory, "
        "made "
        "when it is missing."),
    ROW("mirror", STRING, mirror, "", 0, 0,
        "A directory on another disk, into which the whole trail is copied as it grows. Empty = none."),
    ROW("second_dir", STRING, second_dir, "", 0, 0,
        "A directory on another disk, where the trail goes on when its own is full. Empty = none."),
    ROW("witnesses", STRINGS, witnesses, "", 0, 16,
        "Public keys (C2SP vkey: NAME+ID+KEY) of witnesses whose cosignatures count.", .item = CONF_STRING),
    ROW("keep", DURATION, keep_ms, "0s", 0, 3650 * DAY,
        "Segments older than this are deleted, once they are copied; 0 = never."),
    ROW("keep_size", SIZE, keep_bytes, "0", 0, INT64_C(1) << 50,
        "The oldest segments are deleted, once they are copied, when all take more than this; 0 = no limit."),
    ROW("warn_free", PERCENT, warn_free, "20%", 0, 100, "Below this free share of the disk people are told."),
    ROW("stop_free", PERCENT, stop_free, "10%", 0, 100,
        "Below this only strict records are taken; the others wait on the stream."),
    ROW("warn_lag", DURATION, warn_lag_ms, "60s", SECOND, DAY,
        "The trail behind what is said by this much: people are told."),
};
const struct conf_schema settings_audit_schema = {"audit", sizeof(struct set_audit), audit_fields, N_OF(audit_fields),
                                                  settings_check_audit};

void settings_check_audit(void *object, struct conf_ctx *ctx)
{
    const struct set_audit *a = object;
    const struct {
        const char *key, *path;
    } paths[] = {{"key_file", a->key_file}, {"mirror", a->mirror}, {"second_dir", a->second_dir}};
    for (size_t i = 0; i < N_OF(paths); i++)
        if (*paths[i].path && *paths[i].path != '/')
            conf_problem(ctx, paths[i].key, "found `%s`; allowed: an absolute path", paths[i].path);
    if (*a->mirror && strcmp(a->mirror, a->second_dir) == 0)
        conf_problem(ctx, "mirror", "the same as second_dir; allowed: a directory of its own");
    if (a->stop_free > a->warn_free)
        conf_problem(ctx, "stop_free", "above warn_free; allowed: at most that, people are told first");
    if ((a->keep_ms || a->keep_bytes) && !*a->mirror)
        conf_problem(ctx, a->keep_ms ? "keep" : "keep_size",
                     "needs a mirror: a segment that is nowhere else is never deleted");
}
