select * from {{ source('shop', 'visits') }}
{% if is_incremental() %}
where at > (select max(at) from {{ this }})
{% endif %}
