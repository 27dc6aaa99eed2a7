/* backup_source.c - the kinds of sources; two of them are their files and nothing more. */
#include "continuity/backup_source.h"
#include <stddef.h>

static const struct backup_source_kind learning = {.name = "learning"};
static const struct backup_source_kind files = {.name = "files"};

const struct backup_source_kind *backup_source_kind(int kind)
{
    static const struct backup_source_kind *const kinds[] = {
        [SET_BACKUP_LEARNING] = &learning,           [SET_BACKUP_AUDIT] = &backup_source_audit,
        [SET_BACKUP_CONFIG] = &backup_source_config, [SET_BACKUP_NATS] = &backup_source_nats,
        [SET_BACKUP_REDIS] = &backup_source_redis,   [SET_BACKUP_FILES] = &files};
    return kinds[kind];
}
