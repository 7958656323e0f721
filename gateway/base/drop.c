/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drop.c - names and sentences of the drop reasons, from the list in drop.h. */
#include "gateway/base/drop.h"

#include <assert.h>
#include <stddef.h>

static const struct {
	const char *name, *text;
} reasons[] = {[DROP_NONE] = {"none", ""},
#define X(id, name, text) [DROP_##id] = {name, text},
	DROP_REASONS(X)
#undef X
};
static_assert(sizeof(reasons) / sizeof(reasons[0]) == DROP_COUNT, "every reason has a name");

const char *drop_name(enum drop d)
{
	return (size_t)d < DROP_COUNT ? reasons[d].name : "unknown";
}

const char *drop_text(enum drop d)
{
	return (size_t)d < DROP_COUNT ? reasons[d].text : "";
}
