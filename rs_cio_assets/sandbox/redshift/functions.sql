-- Redshift's functions that PostgreSQL lacks, as its documentation describes them; tests hold them to that
-- documentation's own examples. Run at every start; running it again changes nothing.
CREATE SCHEMA IF NOT EXISTS redshift;
SET search_path TO redshift, pg_catalog;

DO $$ BEGIN CREATE DOMAIN redshift.super AS jsonb; EXCEPTION WHEN duplicate_object THEN NULL; END $$;

-- Nulls and choices
CREATE OR REPLACE FUNCTION nvl(anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce($1, $2) $$;
CREATE OR REPLACE FUNCTION nvl(anycompatible, anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce($1, $2, $3) $$;
CREATE OR REPLACE FUNCTION nvl(anycompatible, anycompatible, anycompatible, anycompatible) RETURNS anycompatible
LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce($1, $2, $3, $4) $$;
CREATE OR REPLACE FUNCTION nvl2(anyelement, anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 IS NOT NULL THEN $2 ELSE $3 END $$;
CREATE OR REPLACE FUNCTION decode(anycompatible, anycompatible, text, text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 IS NOT DISTINCT FROM $2 THEN $3 ELSE $4 END $$;
CREATE OR REPLACE FUNCTION decode(anycompatible, anycompatible, text, anycompatible, text, text) RETURNS text
LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 IS NOT DISTINCT FROM $2 THEN $3 WHEN $1 IS NOT DISTINCT FROM $4 THEN $5 ELSE $6 END $$;

-- Dates
CREATE OR REPLACE FUNCTION getdate() RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC') $$;

CREATE OR REPLACE FUNCTION date_part_name(given text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p IN ('y', 'yr', 'yrs', 'year', 'years') THEN 'year'
    WHEN p IN ('qtr', 'qtrs', 'quarter', 'quarters') THEN 'quarter'
    WHEN p IN ('mon', 'mons', 'month', 'months') THEN 'month'
    WHEN p IN ('w', 'week', 'weeks') THEN 'week'
    WHEN p IN ('d', 'day', 'days') THEN 'day'
    WHEN p IN ('h', 'hr', 'hrs', 'hour', 'hours') THEN 'hour'
    WHEN p IN ('m', 'min', 'mins', 'minute', 'minutes') THEN 'minute'
    WHEN p IN ('s', 'sec', 'secs', 'second', 'seconds') THEN 'second'
    WHEN p IN ('ms', 'msec', 'msecs', 'millisecond', 'milliseconds') THEN 'millisecond'
    WHEN p IN ('us', 'usec', 'usecs', 'microsecond', 'microseconds') THEN 'microsecond'
  END FROM (SELECT lower(given) AS p) AS lowered
$$;

CREATE OR REPLACE FUNCTION dateadd(part text, amount bigint, moment timestamp) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  unit text := redshift.date_part_name(part);
  result timestamp;
BEGIN
  CASE unit
    WHEN 'year' THEN
      result := moment + make_interval(years => amount::int);
      -- From February 29 to a year that has none, Redshift goes on to March 1.
      IF extract(day FROM moment) = 29 AND extract(month FROM moment) = 2 AND extract(day FROM result) = 28 THEN
        result := result + interval '1 day';
      END IF;
      RETURN result;
    -- Unlike ADD_MONTHS: April 30 and a month is May 30.
    WHEN 'quarter' THEN RETURN moment + make_interval(months => amount::int * 3);
    WHEN 'month' THEN RETURN moment + make_interval(months => amount::int);
    WHEN 'week' THEN RETURN moment + make_interval(weeks => amount::int);
    WHEN 'day' THEN RETURN moment + make_interval(days => amount::int);
    WHEN 'hour' THEN RETURN moment + amount * interval '1 hour';
    WHEN 'minute' THEN RETURN moment + amount * interval '1 minute';
    WHEN 'second' THEN RETURN moment + amount * interval '1 second';
    WHEN 'millisecond' THEN RETURN moment + amount * interval '1 millisecond';
    WHEN 'microsecond' THEN RETURN moment + amount * interval '1 microsecond';
    ELSE RAISE EXCEPTION 'date part "%" is not supported', part USING ERRCODE = '22023';
  END CASE;
END $$;
CREATE OR REPLACE FUNCTION dateadd(part text, amount bigint, moment date) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT redshift.dateadd(part, amount, moment::timestamp) $$;
CREATE OR REPLACE FUNCTION dateadd(part text, amount bigint, moment timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT redshift.dateadd(part, amount, moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' $$;

-- DATEDIFF counts the boundaries crossed; a week begins on Sunday.
CREATE OR REPLACE FUNCTION datediff(part text, a timestamp, b timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE redshift.date_part_name(part)
    WHEN 'year' THEN extract(year FROM b)::bigint - extract(year FROM a)::bigint
    WHEN 'quarter' THEN (extract(year FROM b) * 4 + extract(quarter FROM b) - extract(year FROM a) * 4 - extract(quarter FROM a))::bigint
    WHEN 'month' THEN (extract(year FROM b) * 12 + extract(month FROM b) - extract(year FROM a) * 12 - extract(month FROM a))::bigint
    WHEN 'week' THEN (date_trunc('week', b + interval '1 day')::date - date_trunc('week', a + interval '1 day')::date)::bigint / 7
    WHEN 'day' THEN (b::date - a::date)::bigint
    WHEN 'hour' THEN (extract(epoch FROM date_trunc('hour', b) - date_trunc('hour', a)) / 3600)::bigint
    WHEN 'minute' THEN (extract(epoch FROM date_trunc('minute', b) - date_trunc('minute', a)) / 60)::bigint
    WHEN 'second' THEN extract(epoch FROM date_trunc('second', b) - date_trunc('second', a))::bigint
    WHEN 'millisecond' THEN (extract(epoch FROM date_trunc('milliseconds', b) - date_trunc('milliseconds', a)) * 1000)::bigint
    WHEN 'microsecond' THEN (extract(epoch FROM b - a) * 1000000)::bigint
    -- The cast cannot work: an error, where no branch would be NULL, that a function can still be inlined with.
    ELSE ('date part ' || part || ' is not supported')::bigint
  END
$$;
CREATE OR REPLACE FUNCTION datediff(part text, a date, b date) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT redshift.datediff(part, a::timestamp, b::timestamp) $$;
CREATE OR REPLACE FUNCTION datediff(part text, a timestamptz, b timestamptz) RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT redshift.datediff(part, a AT TIME ZONE 'UTC', b AT TIME ZONE 'UTC') $$;

CREATE OR REPLACE FUNCTION last_day(moment timestamp) RETURNS date LANGUAGE sql IMMUTABLE AS
$$ SELECT (date_trunc('month', moment) + interval '1 month - 1 day')::date $$;
-- The last day of a month stays the last day.
CREATE OR REPLACE FUNCTION add_months(moment timestamp, months bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN moment::date = redshift.last_day(moment)
    THEN redshift.last_day(date_trunc('month', moment) + make_interval(months => months::int)) + moment::time
    ELSE moment + make_interval(months => months::int) END
$$;
CREATE OR REPLACE FUNCTION convert_timezone(source text, target text, moment timestamp) RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT moment AT TIME ZONE source AT TIME ZONE target $$;
CREATE OR REPLACE FUNCTION convert_timezone(target text, moment timestamp) RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT moment AT TIME ZONE 'UTC' AT TIME ZONE target $$;
CREATE OR REPLACE FUNCTION convert_timezone(target text, moment timestamptz) RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT moment AT TIME ZONE target $$;
CREATE OR REPLACE FUNCTION trunc(moment timestamp) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT moment::date $$;

-- Text
CREATE OR REPLACE FUNCTION len(given text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT length(given) $$;
CREATE OR REPLACE FUNCTION charindex(part text, given text) RETURNS int LANGUAGE sql IMMUTABLE AS
$$ SELECT strpos(given, part) $$;
CREATE OR REPLACE FUNCTION sha2(given text, bits int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT encode(CASE bits
    WHEN 224 THEN sha224(convert_to(given, 'UTF8'))
    WHEN 384 THEN sha384(convert_to(given, 'UTF8'))
    WHEN 512 THEN sha512(convert_to(given, 'UTF8'))
    ELSE sha256(convert_to(given, 'UTF8')) END, 'hex')
$$;
CREATE OR REPLACE FUNCTION strtol_any_base(given text, base int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  digits text := ltrim(lower(trim(given)), '+');
  sign numeric := 1;
  result numeric := 0;
  digit text;
BEGIN
  IF digits IS NULL THEN RETURN NULL; END IF;
  IF digits LIKE '\\0%' THEN RETURN 0; END IF;
  IF digits LIKE '-%' THEN sign := -1; digits := substr(digits, 2); END IF;
  IF base = 16 AND digits LIKE '0x%' THEN digits := substr(digits, 3); END IF;
  FOREACH digit IN ARRAY string_to_array(digits, NULL) LOOP
    IF strpos(left('0123456789abcdefghijklmnopqrstuvwxyz', base), digit) = 0 THEN
      RAISE EXCEPTION 'a text is not a number of base %', base USING ERRCODE = '22P02';
    END IF;
    result := result * base + strpos('0123456789abcdefghijklmnopqrstuvwxyz', digit) - 1;
  END LOOP;
  RETURN sign * result;
END $$;
-- Plain hexadecimal up to 15 digits is what the fingerprints use over every row: that way is inlined and quick.
CREATE OR REPLACE FUNCTION strtol(given text, base int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN base = 16 AND given ~ '^[0-9a-f]{1,15}$'
    THEN ('x' || lpad(given, 16, '0'))::bit(64)::bigint ELSE redshift.strtol_any_base(given, base) END
$$;

-- JSON: SUPER is jsonb here
CREATE OR REPLACE FUNCTION json_parse(given text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT given::jsonb $$;
-- Without the spaces that jsonb prints between values, and 'null' for NULL.
CREATE OR REPLACE FUNCTION json_serialize(given jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(regexp_replace(given::text, '("(?:[^"\\]|\\.)*")|\s+', '\1', 'g'), 'null') $$;
CREATE OR REPLACE FUNCTION can_json_parse(given text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT given IS JSON $$;
CREATE OR REPLACE FUNCTION is_valid_json(given text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT given IS JSON OBJECT $$;
CREATE OR REPLACE FUNCTION json_extract_path_text(given text, VARIADIC path text[]) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(given::jsonb #>> path, '') $$;
CREATE OR REPLACE FUNCTION get_array_length(given jsonb) RETURNS int LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN jsonb_typeof(given) = 'array' THEN jsonb_array_length(given) END $$;

-- UNLOAD and COPY
CREATE OR REPLACE FUNCTION pg_last_unload_count() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('redshift.last_unload_count', true), ''), '0')::bigint $$;
CREATE OR REPLACE FUNCTION pg_last_copy_count() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('redshift.last_copy_count', true), ''), '0')::bigint $$;

-- Roles of UNLOAD and COPY. Until it is revoked from PUBLIC everybody may take any; a superuser always may.
-- Source: AWS Redshift developer guide, GRANT, usage notes for ASSUMEROLE, read 2026-11-26.
DO $$ BEGIN
  IF to_regclass('redshift.assumerole') IS NULL THEN
    CREATE TABLE redshift.assumerole (grantee text, role text, command text, PRIMARY KEY (grantee, role, command));
    INSERT INTO redshift.assumerole
    SELECT 'public', 'all', command FROM unnest(ARRAY['COPY', 'UNLOAD', 'EXTERNAL FUNCTION', 'CREATE MODEL']) AS command;
    GRANT SELECT ON redshift.assumerole TO PUBLIC;
  END IF;
END $$;
CREATE OR REPLACE PROCEDURE grant_assumerole(roles text[], grantees text[], commands text[]) LANGUAGE plpgsql AS $$
DECLARE
  unknown text := (SELECT min(g) FROM unnest(grantees) AS g WHERE g <> 'public' AND g NOT IN (SELECT rolname FROM pg_roles));
BEGIN
  IF unknown IS NOT NULL THEN RAISE EXCEPTION 'user "%" does not exist', unknown USING ERRCODE = '42704'; END IF;
  INSERT INTO redshift.assumerole SELECT g, r, c FROM unnest(grantees) AS g, unnest(roles) AS r, unnest(commands) AS c
  ON CONFLICT DO NOTHING;
END $$;
CREATE OR REPLACE PROCEDURE revoke_assumerole(roles text[], grantees text[], commands text[]) LANGUAGE sql AS $$
  DELETE FROM redshift.assumerole
  WHERE grantee = ANY (grantees) AND (role = ANY (roles) OR 'all' = ANY (roles)) AND command = ANY (commands)
$$;
CREATE OR REPLACE FUNCTION has_assumerole_privilege(who text, arn text, command text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = who), false) OR EXISTS (
    SELECT FROM redshift.assumerole AS a
    WHERE a.grantee IN (who, 'public') AND a.role IN (arn, 'all') AND a.command = upper($3))
$$;
CREATE OR REPLACE FUNCTION has_assumerole_privilege(arn text, command text) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT redshift.has_assumerole_privilege(current_user::text, arn, command) $$;

-- System views
CREATE OR REPLACE VIEW stv_db_isolation_level AS
SELECT datname::char(128) AS db_name, 'Snapshot Isolation'::char(20) AS isolation_level FROM pg_database;
GRANT SELECT ON stv_db_isolation_level TO PUBLIC;
