select page from {{ source('shop', 'visits')
