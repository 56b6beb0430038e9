"""Redshift's functions as the AWS developer guide shows them (read 2026-11-25), page by page.

The stand-in is held to them in every run of the suite, a real cluster by `make smoke`.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any


def at(*parts: int) -> datetime:
    """A naive time."""
    return datetime(*parts)  # noqa: DTZ001 - TIMESTAMP has no zone


# Page of the guide -> expression -> what the page, or where it has no literal example its text, says.
EXAMPLES: dict[str, dict[str, Any]] = {
    "r_DATEADD_function": {
        "DATEADD('month', 18, '2008-02-28'::DATE)": at(2009, 8, 28),
        "DATEADD('m', 30, '2008-02-28'::DATE)": at(2008, 2, 28, 0, 30),
        "DATEADD('year', 1, '2016-02-29'::DATE)": at(2017, 3, 1),
        "DATEADD('month', 12, '2016-02-29'::DATE)": at(2017, 2, 28),
        "DATEADD('month', 1, '2008-04-30'::DATE)": at(2008, 5, 30),
        "DATEADD('day', 30, '2008-11-01'::DATE)": at(2008, 12, 1),
        "DATEADD('hour', -1, '2024-03-01 00:30'::TIMESTAMP)": at(2024, 2, 29, 23, 30),
    },
    "r_DATEDIFF_function": {
        "DATEDIFF('week', '2009-01-01'::DATE, '2009-12-31'::DATE)": 52,
        "DATEDIFF('hour', '2023-01-01'::TIMESTAMP, '2023-01-03 05:04:03'::TIMESTAMP)": 53,
        "DATEDIFF('year', '2008-12-31'::DATE, '2009-01-01'::DATE)": 1,
        "DATEDIFF('hour', '2009-01-01 8:30:00'::TIMESTAMP, '2009-01-01 10:00:00'::TIMESTAMP)": 2,
        "DATEDIFF('day', '2008-06-01 09:59:59'::TIMESTAMP, '2008-07-04 09:59:59'::TIMESTAMP)": 33,
        "DATEDIFF('day', '2009-01-02'::DATE, '2009-01-01'::DATE)": -1,
        "DATEDIFF('month', '2009-01-31'::DATE, '2009-02-01'::DATE)": 1,
        "DATEDIFF('quarter', '2009-03-31'::DATE, '2009-04-01'::DATE)": 1,
        # Not taken: the page's "qtr" from 1998-07-01 to "June 5, 2008" is 40. Its own rule, boundaries crossed, gives 39.
        "DATEDIFF('minute', '2009-01-01 00:00:59'::TIMESTAMP, '2009-01-01 00:01:00'::TIMESTAMP)": 1,
        "DATEDIFF('second', '2009-01-01'::TIMESTAMP, '2009-01-01 00:01:00'::TIMESTAMP)": 60,
    },
    "r_ADD_MONTHS": {
        "ADD_MONTHS('2008-01-01 05:07:30'::TIMESTAMP, 1)": at(2008, 2, 1, 5, 7, 30),
        "ADD_MONTHS('2008-03-31'::TIMESTAMP, 1)": at(2008, 4, 30),
        "ADD_MONTHS('2008-04-30'::TIMESTAMP, 1)": at(2008, 5, 31),
        "TRUNC(ADD_MONTHS('2008-01-02'::TIMESTAMP, 12))": date(2009, 1, 2),
        "ADD_MONTHS('2008-03-31'::TIMESTAMP, -1)": at(2008, 2, 29),
    },
    "r_LAST_DAY": {
        "LAST_DAY('2014-01-14 10:00'::TIMESTAMP)": date(2014, 1, 31),
        "LAST_DAY('2024-02-01'::DATE)": date(2024, 2, 29),
    },
    "r_TRUNC_date": {"TRUNC('2011-07-21 10:32:38.248109'::TIMESTAMP)": date(2011, 7, 21)},
    "CONVERT_TIMEZONE": {
        "CONVERT_TIMEZONE('America/New_York', '2013-02-01 08:00:00'::TIMESTAMP)": at(2013, 2, 1, 3),
        "CONVERT_TIMEZONE('EST', 'America/New_York', '2013-06-01 08:00:00'::TIMESTAMP)": at(2013, 6, 1, 9),
    },
    "r_STRTOL": {
        "STRTOL('0xf', 16)": 15,
        "STRTOL('abcd1234', 16)": 2_882_343_476,
        "STRTOL('1234567', 10)": 1_234_567,
        "STRTOL('1234567', 8)": 342_391,
        "STRTOL('110101', 2)": 53,
        "STRTOL('', 10)": 0,
        r"STRTOL('\0', 2)": 0,
        "STRTOL(' -12', 10)": -12,
        "STRTOL(NULL, 10)": None,
    },
    "r_LEN": {"LEN('')": 0, "LEN('franç')": 5},
    "r_CHARINDEX": {"CHARINDEX('fish', 'dogfish')": 4, "CHARINDEX('fish', 'Dog Fish')": 0},
    "r_NVL_function": {
        "NVL(NULL, 12, 15)": 12,
        "NVL(NULL, NULL, 'c')": "c",
        "NVL(NULL::INTEGER, NULL, NULL, 4)": 4,
        "NVL('a', 'b')": "a",
    },
    "r_NVL2": {"NVL2('contact'::VARCHAR, 'email', 'phone')": "email", "NVL2(NULL::VARCHAR, 'email', 'phone')": "phone"},
    "r_DECODE_expression": {
        "DECODE(2, 1, 'June 1st, 2008', 2, 'June 30th, 2008', '')": "June 30th, 2008",
        "DECODE(NULL::INTEGER, NULL, 'unknown', 'known')": "unknown",
        "DECODE(3, 1, 'one', 'other')": "other",
    },
    "JSON_EXTRACT_PATH_TEXT": {
        """JSON_EXTRACT_PATH_TEXT('{"f2":{"f3":1},"f4":{"f5":99,"f6":"star"}}', 'f4', 'f6')""": "star",
        # 2023's guide: an empty text; the present one: NULL. Views wrap it in NULLIF(..., ''), which holds for both.
        """NULLIF(JSON_EXTRACT_PATH_TEXT('{"f2":1}', 'f9'), '')""": None,
    },
    "JSON_SERIALIZE": {
        "JSON_SERIALIZE(JSON_PARSE('[10001,10002,\"abc\"]'))": '[10001,10002,"abc"]',
        "JSON_SERIALIZE(NULL)": "null",
        r"""JSON_SERIALIZE(JSON_PARSE('{"a b": "c, \"d\": e\\"}'))""": r'{"a b":"c, \"d\": e\\"}',
    },
    "CAN_JSON_PARSE": {"CAN_JSON_PARSE('[10001,10002,\"abc\"]')": True, "CAN_JSON_PARSE('This is a string')": False},
    "IS_VALID_JSON": {
        """IS_VALID_JSON('{"a":2}')""": True,
        """IS_VALID_JSON('{1:"a"}')""": False,
        "IS_VALID_JSON('[1,2,3]')": False,
    },
    "get_array_length": {
        "GET_ARRAY_LENGTH(JSON_PARSE('[1,2,3,4,5,6,7,8,9,10]'))": 10,
        """GET_ARRAY_LENGTH(JSON_PARSE('{"a":1}'))""": None,
    },
    "r_LISTAGG": {
        "(SELECT LISTAGG(v, ', ') WITHIN GROUP (ORDER BY v DESC) FROM (SELECT 'a' AS v UNION ALL SELECT 'b') AS t)": "b, a",
    },
}
