/* backup_nats_manifest.h - what the manifest of saved streams says; for backup_nats*.c alone. */
#ifndef REDOUBT_CONTINUITY_BACKUP_NATS_MANIFEST_H
#define REDOUBT_CONTINUITY_BACKUP_NATS_MANIFEST_H

#include "continuity/backup_nats.h"
#include <jansson.h>

#define NATS_NAME_MAX 64

struct nats_saved { /* points into the manifest */
    const char *name, *file, *sha256;
    uint64_t bytes, messages, last_seq;
    int64_t max_age_ns;
    const json_t *config, *state;
    const json_t *consumers; /* names of the durable ones */
};
/* NULL with the reason: not there, not JSON, or something in it is not what it must be. json_decref() it. */
json_t *nats_manifest_read(const char *dir, struct err *e);
size_t nats_manifest_streams(const json_t *manifest);
/* Checked by nats_manifest_read(). */
struct nats_saved nats_manifest_stream(const json_t *manifest, size_t i);
json_t *nats_manifest_new(int64_t saved_unix_ms);
/* config, state and consumers are copied. */
void nats_manifest_add(json_t *manifest, const char *name, const char *sha256, uint64_t bytes, const json_t *config,
                       const json_t *state, const json_t *consumers);
void nats_manifest_absent(json_t *manifest, const char *name);
int nats_manifest_write(const json_t *manifest, const char *dir, struct err *e);
struct backup_copy_sum nats_manifest_sum(const json_t *manifest);
void nats_file_name(const char *stream, char *buf, size_t size);

#endif
