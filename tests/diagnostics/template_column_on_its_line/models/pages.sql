select v.page, v.cokie from {{ source('shop', 'visits') }} v where amout > 1
