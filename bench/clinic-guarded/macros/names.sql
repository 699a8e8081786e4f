{# The start of a given name: "Jon", "jon " and "Jonathan" agree, and so do most misspellings. No name is nothing. #}
{% macro given() %}nullif(left(lower(trim(first_name)), 3), ''){% endmacro %}

{# A number's national digits: without the 1 of the US in front and without an extension behind. #}
{% macro digits(number) %}regexp_replace(trim({{ number }}), '^[+]?1|x.*$|[^0-9]', '', 'g'){% endmacro %}

{% macro name_birth() %}{{ given() }} || ' ' || birth_date || ' ' || trim(postal_code){% endmacro %}
{% macro name_email() %}{{ given() }} || ' ' || lower(trim(email)){% endmacro %}
{% macro name_phone() %}{{ given() }} || ' ' || {{ digits('phone') }}{% endmacro %}
