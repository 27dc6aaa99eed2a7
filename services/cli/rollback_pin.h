/* rollback_pin.h - an override for compose that keeps a deployment on the version that runs: pure. */
#ifndef REDOUBT_CLI_ROLLBACK_PIN_H
#define REDOUBT_CLI_ROLLBACK_PIN_H

#include "common/err.h"
#include "common/wire.h"

/* The file's text; free it. NULL with the reason in e: what was recorded is not of a service of compose. */
char *rollback_pin_text(const PB(VersionRecord) * rec, struct err *e);

#endif
