/* backup_command.h - what backup.c and backup_command.c need of each other. */
#ifndef REDOUBT_CONTINUITY_BACKUP_COMMAND_H
#define REDOUBT_CONTINUITY_BACKUP_COMMAND_H

#include "continuity/backup_impl.h"

struct backup_source *backups_find(struct backups *b, const char *name); /* NULL = there is none */
/* x goes on with the settings of `is`, which is freed after it. */
void backups_replace(struct backup_source *x, struct backup_source *is);
/* Orders whose record is not durable yet find nobody any more. */
void backup_commands_left(struct backups *b);

#endif
