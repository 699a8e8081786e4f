select *
from {{ reff('web', 'tracks') }}
