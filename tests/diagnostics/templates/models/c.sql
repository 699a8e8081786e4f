-- uses a macro
select {{ total('amount') }} from {{ source('web', 'tracks') }}
