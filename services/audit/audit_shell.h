/* audit_shell.h - the audit service's handlers, for main.c's table. */
#ifndef REDOUBT_AUDIT_SHELL_H
#define REDOUBT_AUDIT_SHELL_H

#include "common/service.h"

int audit_start(struct service *s, struct err *e);
void audit_drain(struct service *s);
void audit_stop(struct service *s);
void audit_on_room(struct service *s);
void audit_on_lag(struct service *s);
void audit_on_keep(struct service *s);
void audit_on_wards(struct service *s);
void audit_on_status(struct service *s, const void *message, const struct bus_msg *m);
void audit_on_read(struct service *s, const void *message, const struct bus_msg *m);
void audit_on_rotate(struct service *s, const void *message, const struct bus_msg *m);

#endif
