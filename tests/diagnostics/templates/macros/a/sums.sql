{% macro total(c) -%}
  sum({{ c }}) + {{ nothing }}
{%- endmacro %}
