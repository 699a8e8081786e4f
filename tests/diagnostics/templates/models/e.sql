{{ config(materialized='view') }}
select 1
