{% macro x( %}
