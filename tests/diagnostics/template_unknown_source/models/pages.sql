select page
from {{ source('shop', 'visit') }}
where amount > 1
