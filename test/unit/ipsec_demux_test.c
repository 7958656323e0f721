/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_demux_test.c - telling apart IKE, ESP and keepalives, and taking merged datagrams apart. */
#include "ipsec/sock_private.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint8_t body[200];

static void test_classify(void **state)
{
	static const uint8_t esp[] = {0, 0, 1, 0, 0, 0, 0, 1}, zeros[40] = {0},
			     ff[] = {0xff, 0xff, 0xff, 0xff};
	static const struct {
		enum ipsec_port port;
		const uint8_t *data;
		uint32_t len;
		enum ipsec_rx_kind kind;
		enum drop drop;
	} rows[] = {
		{IPSEC_UDP_500, zeros, 0, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_500, zeros, 27, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_500, zeros, 28, IPSEC_RX_IKE, DROP_NONE},
		{IPSEC_UDP_500, body, 28, IPSEC_RX_IKE, DROP_NONE},
		{IPSEC_UDP_500, ff, 1, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, zeros, 0, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, ff, 1, IPSEC_RX_KEEPALIVE, DROP_NONE},
		{IPSEC_UDP_4500, ff, 2, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, zeros, 1, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, esp, 4, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, esp, 7, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, esp, 8, IPSEC_RX_ESP, DROP_NONE},
		{IPSEC_UDP_4500, zeros, 31, 0, DROP_IPSEC_MALFORMED},
		{IPSEC_UDP_4500, zeros, 32, IPSEC_RX_IKE, DROP_NONE},
		{IPSEC_RAW, zeros, 7, 0, DROP_ESP_TRUNCATED},
		{IPSEC_RAW, zeros, 8, IPSEC_RX_ESP, DROP_NONE},
		{IPSEC_RAW, zeros, 40, IPSEC_RX_ESP, DROP_NONE},
	};

	(void)state;
	memset(body, 1, sizeof(body));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum ipsec_rx_kind kind;

		assert_int_equal(
			ipsec_classify(rows[i].port, rows[i].data, rows[i].len, &kind), rows[i].drop);
		if (rows[i].drop == DROP_NONE)
			assert_int_equal(kind, rows[i].kind);
	}
}

static void test_cut(void **state)
{
	static const struct {
		uint32_t len, segment;
		uint32_t parts[4];
		unsigned n;
	} rows[] = {
		{0, 0, {0}, 1},
		{0, 100, {0}, 1},
		{100, 0, {100}, 1},
		{100, 100, {100}, 1},
		{100, 101, {100}, 1},
		{100, 99, {99, 1}, 2},
		{100, 50, {50, 50}, 2},
		{100, 33, {33, 33, 33, 1}, 4},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ipsec_cut c = {body, rows[i].len, rows[i].segment};
		unsigned n = 0;

		do {
			assert_int_equal(ipsec_cut_next(&c), rows[i].parts[n++]);
		} while (c.len);
		assert_int_equal(n, rows[i].n);
		assert_ptr_equal(c.data, body + rows[i].len);
	}
}

static void test_quoted(void **state)
{
	static const uint8_t esp[] = {1, 2, 3, 4, 5}, zeros[4] = {0}, ff[] = {0xff};
	static const struct {
		enum ipsec_port port;
		const uint8_t *quote;
		uint32_t len;
		bool is_esp;
		uint32_t spi;
	} rows[] = {
		{IPSEC_UDP_500, esp, 5, false, 0},
		{IPSEC_UDP_500, esp, 0, false, 0},
		{IPSEC_UDP_4500, esp, 5, true, 0x01020304},
		{IPSEC_UDP_4500, esp, 4, true, 0x01020304},
		{IPSEC_UDP_4500, esp, 3, false, 0},
		{IPSEC_UDP_4500, esp, 0, true, 0},
		{IPSEC_UDP_4500, ff, 1, false, 0},
		{IPSEC_UDP_4500, zeros, 4, false, 0},
		{IPSEC_RAW, esp, 5, true, 0x01020304},
		{IPSEC_RAW, esp, 3, true, 0},
		{IPSEC_RAW, esp, 0, true, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_esp;
		uint32_t spi;

		ipsec_quoted(rows[i].port, rows[i].quote, rows[i].len, &is_esp, &spi);
		assert_int_equal(is_esp, rows[i].is_esp);
		assert_int_equal(spi, rows[i].spi);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_quoted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
