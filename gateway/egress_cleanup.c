/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_cleanup.c - the final stop: what any run left in the kernel is taken away. */
#include "gateway/conntrack.h"
#include "gateway/egress.h"
#include "gateway/egress_private.h"

#include <string.h>

int egress_forget_all(const struct conf_egress *c)
{
	return conntrack_forget_marked(c->mark);
}

/* Connections first: without their entries no answer is translated back or marked, so that none is sent to
 * the machine's own network. Forwarding goes off while the rules that bound it are still there. */
int egress_cleanup(const struct config *c, struct log *log)
{
	struct sysctls *s;
	char err[160] = "";
	int first = 0, rc;

	rc = ruleset_alone(NULL, err, sizeof(err));
	if (rc) {
		log_error(log, "egress", NULL, "%s", err[0] ? err : strerror(-rc));
		return rc;
	}
	rc = egress_forget_all(&c->egress);
	if (rc < 0) {
		log_warning(log, "egress", NULL, "marked connections are not deleted: %s", strerror(-rc));
		first = rc;
	} else if (rc) {
		log_info(log, "egress", NULL, "%d marked connections deleted", rc);
	}
	rc = sysctls_load(&s, c->gateway.state_dir, log);
	if (!rc) {
		sysctls_restore(s);
		sysctls_free(s);
	}
	first = first ? first : rc;
	rc = ruleset_unload();
	if (rc)
		log_warning(log, "egress", NULL, "table inet arrd cannot be deleted: %s", strerror(-rc));
	first = first ? first : rc;
	rc = policy_down();
	if (rc)
		log_warning(log, "egress", NULL, "rules and routes cannot be deleted: %s", strerror(-rc));
	return first ? first : rc;
}
